"""Traffic simulator, as a course's lab has it: sends passing vehicles to Kafka, one CSV line each, without a key.

Prints every line that it sent, so that a test knows them.
"""

import argparse
import random
import time

from kafka import KafkaProducer

VEHICLE_TYPES = ("car", "car", "car", "truck", "van")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", default="127.0.0.1:9092")
    parser.add_argument("--topic", default="toll")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--rate", type=float, default=10, help="messages per second, 0 for as fast as it goes")
    args = parser.parse_args()

    producer = KafkaProducer(bootstrap_servers=args.bootstrap)
    sent = []
    for _ in range(args.count):
        vehicle_id = random.randint(10000, 10000000)
        vehicle_type = random.choice(VEHICLE_TYPES)
        plaza = random.randint(4000, 4010)
        line = f"{time.ctime()},{vehicle_id},{vehicle_type},{plaza}"
        sent.append((line, producer.send(args.topic, line.encode("utf-8"))))
        if args.rate > 0:
            time.sleep(random.random() * 2 / args.rate)
    producer.flush()
    for line, future in sent:
        future.get(timeout=30)  # raises what went wrong
        print(line)
    producer.close()


if __name__ == "__main__":
    main()
