"""Streaming data consumer, as a course's lab has it: reads lines from Kafka and inserts them into MySQL row by row.

Unlike the lab's it ends, after a number of messages or when none came for a while.
"""

import argparse
from datetime import datetime

import mysql.connector
from kafka import KafkaConsumer


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", default="127.0.0.1:9092")
    parser.add_argument("--topic", default="toll")
    parser.add_argument("--count", type=int, default=0, help="stop after so many messages, 0 for no such limit")
    parser.add_argument("--idle", type=float, default=10, help="stop after so many seconds without a message")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=3306)
    parser.add_argument("--database", default="tolldata")
    parser.add_argument("--user", default="toll")
    parser.add_argument("--password", default="toll")
    args = parser.parse_args()

    connection = mysql.connector.connect(
        host=args.host, port=args.port, database=args.database, user=args.user, password=args.password
    )
    cursor = connection.cursor()
    consumer = KafkaConsumer(
        args.topic,
        bootstrap_servers=args.bootstrap,
        auto_offset_reset="earliest",
        consumer_timeout_ms=int(args.idle * 1000),
    )
    n = 0
    for message in consumer:
        timestamp, vehicle_id, vehicle_type, plaza = message.value.decode("utf-8").split(",")
        timestamp = datetime.strptime(timestamp, "%a %b %d %H:%M:%S %Y").strftime("%Y-%m-%d %H:%M:%S")
        cursor.execute("insert into livetolldata values(%s,%s,%s,%s)", (timestamp, vehicle_id, vehicle_type, plaza))
        connection.commit()
        n += 1
        if n == args.count:
            break
    print(f"inserted {n} rows")
    consumer.close()
    connection.close()


if __name__ == "__main__":
    main()
