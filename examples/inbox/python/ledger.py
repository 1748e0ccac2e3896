"""A ledger that books each CloudEvent once, in order, whatever crashes. See README.md."""

import os
import random
import signal
import sys
import threading

import psycopg
from cloudevents.core.bindings.kafka import KafkaMessage, from_kafka
from cloudevents.core.formats.json import JSONFormat
from confluent_kafka import Consumer, KafkaException, TopicPartition

ATTEMPTS = int(os.environ.get("ATTEMPTS") or 10)  # of an event, before the program gives up

stopping = threading.Event()  # somebody has asked the program to stop


def handle(connection, event):
    """What this service does with an event. It is your part: all of it in this transaction."""
    booking = event.get_data()
    account, amount = booking["account"], int(booking["amount"])
    connection.execute(
        "insert into account (name, balance) values (%s, %s)"
        " on conflict (name) do update set balance = account.balance + excluded.balance",
        (account, amount),
    )
    connection.execute(
        "insert into entry (account, amount, source, event) values (%s, %s, %s, %s)",
        (account, amount, event.get_source(), event.get_id()),
    )


class Stop(Exception):
    """Nothing can be handled before somebody has done what the remedy says."""

    def __init__(self, problem, remedy):
        super().__init__(f"{problem}\nfix: {remedy}")


class Inbox:
    """Handles each event in one transaction with the note that it is handled."""

    def __init__(self, dsn, group):
        self.dsn, self.group = dsn, group
        self.connection = self.number = None

    def connect(self):
        if self.connection is None or self.connection.closed:
            connection = psycopg.connect(self.dsn, autocommit=True, connect_timeout=10)
            connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
            self.number = connection.execute("select inbox.register(%s, %s)", (self.group, self.group)).fetchone()[0]
            self.connection = connection

    def once(self, message, event):
        """Handles an event, and reports whether that had not been done before."""
        self.connect()
        with self.connection.transaction():
            transaction, parked, fresh = self.connection.execute(
                "select transaction, parked, fresh[1] from inbox.take(%s::integer, %s::text, %s::integer[], %s::bytea,"
                " array[%s]::text[], array[%s]::text[], array[null]::text[], array[null]::text[], true)",
                (self.number, message.topic(), [message.partition()], message.key(), event.get_source(), event.get_id()),
            ).fetchone()
            if parked:
                raise Stop(f"the key of {place(message)} is parked", "release it with the program that has parked it")
            if fresh:
                handle(self.connection, event)
                self.connection.execute("select inbox.seal(%s)", (transaction,))
        return fresh

    def in_the_end(self, message):
        """Handles an event in place, however often that takes: the next one has to wait for it."""
        event, failures, pauses = decode(message), 0, 0
        while True:
            try:
                fresh = self.once(message, event)
                return print("handled" if fresh else "repeat", place(message), event.get_id(), flush=True)
            except psycopg.OperationalError as error:  # the database is away, or two transactions met: not the event's fault
                problem = error
            except Stop:
                raise
            except Exception as error:
                refuse_setup(error)
                problem, failures = error, failures + 1
                if failures == ATTEMPTS:
                    raise Stop(
                        f"{place(message)}, event {event.get_id()}: cannot be handled: {brief(error)}",
                        "correct the handler or the data and start again: nothing after this event has been handled",
                    ) from error
            pauses += 1
            pause = random.uniform(0.5, 1) * min(30, 0.1 * 2**pauses)
            print(f"{place(message)}: {brief(problem)}; again in {pause:.1f} s", file=sys.stderr, flush=True)
            if stopping.wait(pause):
                sys.exit()


def decode(message):
    """Returns the CloudEvent in a record, whatever its mode."""
    headers = dict(message.headers() or [])
    version = headers.get("ce_specversion", b"1.0").decode()
    try:
        if version not in ("1.0", "0.3"):
            raise ValueError(f"specversion {version!r} is not known here")
        return from_kafka(KafkaMessage(headers, None, message.value() or b""), JSONFormat())
    except Exception as error:
        raise Stop(
            f"{place(message)} is no CloudEvent: {error}",
            "correct its producer; to pass over the record, stop the group and set its offset to"
            f" {message.offset() + 1} (kafka-consumer-groups --reset-offsets)",
        ) from error


def refuse_setup(error):
    """Stops where trying again is of no use."""
    state = getattr(error, "sqlstate", None) or ""
    if state in ("3F000", "42883") or state == "42P01" and "inbox." in str(error):
        raise Stop(f"the inbox is missing: {brief(error)}", "run consume/schema.sql in this database: psql -f schema.sql") from error
    if state.startswith("ZI"):
        raise Stop(error.diag.message_primary, error.diag.message_hint) from error


def brief(error):
    diagnostics = getattr(error, "diag", None)  # of PostgreSQL; its detail shows values of the row
    return (diagnostics and diagnostics.message_primary) or f"{type(error).__name__}: {error}".strip().splitlines()[0]


def place(message):
    return f"{message.topic()}-{message.partition()}@{message.offset()}"


def setting(name, remedy):
    value = os.environ.get(name, "").strip()
    if not value:
        raise Stop(f"{name} is empty", remedy)
    return value


def run():
    group = setting("GROUP", "set it to the group id, which is also this consumer's name in the inbox")
    topics = setting("TOPICS", "set it to the topics, separated by commas").split(",")
    brokers = setting("BROKERS", "set it to the addresses of Kafka, such as kafka-1:9092,kafka-2:9092")
    inbox = Inbox(setting("DSN", "set it to the database, such as postgres://ledger@db/ledger"), group)
    try:
        inbox.connect()
    except psycopg.OperationalError as error:
        raise Stop(f"cannot connect to the database: {brief(error)}", "check DSN, and whether PostgreSQL is up") from error
    except psycopg.Error as error:
        refuse_setup(error)
        raise
    session = int(os.environ.get("SESSION_TIMEOUT_MS") or 10000)
    consumer = Consumer({
        "bootstrap.servers": brokers,
        "group.id": group,
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",  # also in partitions that a topic gets later
        "isolation.level": "read_committed",
        "session.timeout.ms": session,
        "heartbeat.interval.ms": session // 4,
    })
    consumer.subscribe(topics)
    try:
        while not stopping.is_set():
            messages = consumer.consume(num_messages=100, timeout=1.0)
            for message in messages:
                if message.error():
                    print(f"Kafka: {message.error()}", file=sys.stderr, flush=True)
                else:
                    inbox.in_the_end(message)
            commit(consumer, [m for m in messages if not m.error()])
    finally:
        consumer.close()


def commit(consumer, messages):
    """Tells Kafka how far it is. If that fails, what follows comes again, and the inbox knows it."""
    following = {(m.topic(), m.partition()): m.offset() + 1 for m in messages}
    if following:
        try:
            consumer.commit(offsets=[TopicPartition(*at, offset) for at, offset in following.items()], asynchronous=False)
        except KafkaException as error:
            print(f"Kafka: commit: {error.args[0]}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    signal.signal(signal.SIGINT, lambda *_: stopping.set())
    try:
        run()
    except Stop as stop:
        sys.exit(str(stop))
