/* Asks the service on this machine over its Unix socket: one float tensor in, the first output out (docs/wire.md).
   cc -O2 -o client client.c && ./client SOCKET MODEL INPUT DIM... < tensor.raw   Prints the numbers, one a line. */
#define _GNU_SOURCE
#include <endian.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { HELLO = 1, WELCOME = 2, INFER = 5, ANSWER = 6, FP32 = 11, REGION = 1 << 24, ANSWER_AT = 1 << 23 };
static uint8_t message[1 << 16];
static size_t used;

static void put(uint64_t value, int bytes) {
    for (int i = 0; i < bytes; i++) message[used++] = (uint8_t)(value >> (8 * i));
}
static uint64_t get(size_t at, int bytes) {
    uint64_t value = 0;
    for (int i = 0; i < bytes; i++) value |= (uint64_t)message[at + i] << (8 * i);
    return value;
}
static void begin(int kind) { used = 0; memcpy(message, "EGW1", 4), used = 4; put(kind, 2), put(0, 2), put(1, 8); }
static void fail(const char *what) { perror(what); exit(1); }

static void receive(int wire, int kind) {
    ssize_t got = recv(wire, message, sizeof message, 0);
    if (got < 16) fail("the service has ended the connection");
    if ((int)get(4, 2) == kind) return;
    fprintf(stderr, "%d: %.*s\n", (int)get(6, 2), (int)got - 20, (char *)message + 20);
    exit(1);
}

int main(int count, char **words) {
    if (count < 5) return fprintf(stderr, "usage: client SOCKET MODEL INPUT DIM...\n"), 2;
    int rank = count - 4, region = memfd_create("client", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (region < 0 || ftruncate(region, REGION) || fcntl(region, F_ADD_SEALS, F_SEAL_SHRINK)) fail("memfd");
    uint8_t *memory = mmap(NULL, REGION, PROT_READ | PROT_WRITE, MAP_SHARED, region, 0);
    int wire = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    struct sockaddr_un place = {.sun_family = AF_UNIX};
    strncpy(place.sun_path, words[1], sizeof place.sun_path - 1);
    if (memory == MAP_FAILED || connect(wire, (struct sockaddr *)&place, sizeof place)) fail(words[1]);

    begin(HELLO), put(1, 2), put(1, 2), put(0, 4), put(REGION, 8);
    union { char space[CMSG_SPACE(sizeof(int))]; struct cmsghdr header; } control = {0};
    struct iovec part = {message, used};
    struct msghdr hello = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    control.header = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
    memcpy(CMSG_DATA(&control.header), &region, sizeof region);
    if (sendmsg(wire, &hello, 0) < 0) fail("hello");
    receive(wire, WELCOME);

    size_t size = fread(memory, 1, ANSWER_AT, stdin); /* the tensor lies at offset 0 of the region */
    begin(INFER), put(strlen(words[2]), 2), put(0, 2), put(1, 2), put(0, 2), put(0, 4), put(0, 4);
    put(ANSWER_AT, 8), put(REGION - ANSWER_AT, 8);
    memcpy(message + used, words[2], strlen(words[2])), used += strlen(words[2]);
    put(FP32, 1), put(rank, 1), put(strlen(words[3]), 2), put(1, 4), put(0, 8), put(size, 8);
    for (int i = 0; i < rank; i++) put(strtoull(words[4 + i], NULL, 10), 8);
    memcpy(message + used, words[3], strlen(words[3])), used += strlen(words[3]);
    if (send(wire, message, used, 0) < 0) fail("infer");
    receive(wire, ANSWER);

    size_t first = 16 + 16; /* the first output, behind the head and the times */
    if (get(first, 1) != FP32) return fprintf(stderr, "the first output is no FP32\n"), 1;
    uint64_t offset = get(first + 8, 8), bytes = get(first + 16, 8);
    for (uint64_t at = offset; at < offset + bytes; at += 4) {
        uint32_t bits;
        float value;
        memcpy(&bits, memory + at, 4), bits = le32toh(bits), memcpy(&value, &bits, 4);
        printf("%.9g\n", value);
    }
    return 0;
}
