"""A bounded queue between two threads."""

from threading import Thread

from edgeward.serve.queue import Queue


def test_the_latest_wins_and_what_was_given_up_is_counted():
    queue = Queue(2, "latest")
    for number in range(5):
        assert queue.put(number)
    assert queue.take(10, wait_s=0) == [3, 4]
    assert queue.dropped == 3


def test_all_lets_the_giver_wait_and_drops_nothing():
    queue = Queue(2, "all")
    giver = Thread(target=lambda: [queue.put(number) for number in range(20)] and queue.close())
    giver.start()
    taken = []
    while not queue.ended:
        assert len(queue) <= 2
        taken += queue.take(wait_s=5)
    giver.join()
    assert taken == list(range(20))
    assert queue.dropped == 0


def test_a_closed_queue_gives_what_it_has_and_takes_nothing():
    queue = Queue(4, "all")
    queue.put(1)
    queue.close()
    assert not queue.put(2)
    assert not queue.ended
    assert queue.take(wait_s=60) == [1]
    assert queue.ended
    assert queue.take(wait_s=60) == []


def test_a_giver_that_waits_for_room_is_let_go_when_the_queue_is_closed():
    queue = Queue(1, "all")
    queue.put(1)
    took = []
    giver = Thread(target=lambda: took.append(queue.put(2)))
    giver.start()
    queue.close()
    giver.join(60)
    assert took == [False]


def test_a_batch_is_given_at_once_when_it_is_full_and_after_its_deadline_when_it_is_not():
    queue = Queue(8, "latest")
    for number in range(3):
        queue.put(number)
    assert queue.take(2, wait_s=60, gather_s=60) == [0, 1]
    assert queue.take(2, wait_s=60, gather_s=0.01) == [2]
