-- The tables of tollstream. `tollstream init` runs this file; it also runs as it is in the mysql or mariadb client.

-- The course's table, word for word.
create table if not exists livetolldata(timestamp datetime, vehicle_id int, vehicle_type char(15), toll_plaza_id smallint);

-- What this database serves: one row.
create table if not exists toll_meta (
  id              tinyint      not null primary key,
  schema_version  int          not null,
  database_id     char(32)     not null comment 'random, so that another server behind the same address is noticed',
  consumer_group  varchar(249) not null,
  topic           varchar(249) not null,
  topic_id        char(22)     not null comment 'as Kafka prints it; empty until the topic is known',
  timezone        varchar(64)  not null comment 'IANA name; of the wall clock in livetolldata.timestamp',
  created_at      datetime(6)  not null,
  resetting       tinyint      not null default 0 comment 'not 0 while a reset has begun and not ended'
) default character set utf8mb4 collate utf8mb4_bin;

-- Rows that livetolldata held before tollstream: counted once, by init. Plaza -32769 stands for NULL.
create table if not exists toll_baseline (
  toll_plaza_id   int             not null primary key,
  events          bigint          not null,
  checksum        bigint unsigned not null comment 'sum of the CRC-32 of each row''s text, modulo 2^64'
) default character set utf8mb4 collate utf8mb4_bin;

-- Progress: one row a source partition, moved by compare-and-set in the transaction that stores a batch.
create table if not exists toll_cursor (
  topic_id        char(22)        not null,
  partition_id    int             not null,
  start_offset    bigint          not null comment 'where the partition began when it was first seen',
  next_offset     bigint          not null comment 'first offset that is not stored yet',
  token           bigint unsigned not null comment 'renewed at random by every batch',
  epoch           bigint unsigned not null comment 'raised by a rebuild',
  chain           longblob        not null comment 'per plaza the next_offset of its last batch, encoded',
  updated_at      datetime(6)     not null,
  primary key (topic_id, partition_id)
) default character set utf8mb4 collate utf8mb4_bin;

-- Every batch of rows, and the outbox of the deltas that the batch means for the group table.
create table if not exists toll_batch (
  topic_id        char(22)        not null,
  partition_id    int             not null,
  first_offset    bigint          not null comment 'the batch is the offsets [first_offset, next_offset)',
  next_offset     bigint          not null,
  token           bigint unsigned not null,
  events          bigint          not null comment 'rows of livetolldata',
  rejected        bigint          not null comment 'rows of toll_dead_letter',
  skipped         bigint          not null comment 'offsets that held no record for us',
  published       tinyint         not null comment '1 once every delta is acknowledged by the broker',
  deltas          longblob        not null comment 'per plaza: count, checksum, minutes; encoded',
  stored_at       datetime(6)     not null,
  primary key (topic_id, partition_id, first_offset),
  key unpublished (published, topic_id, partition_id, first_offset)
) default character set utf8mb4 collate utf8mb4_bin;

-- Records that can't be a row, as they were received.
create table if not exists toll_dead_letter (
  topic_id        char(22)     not null,
  partition_id    int          not null,
  record_offset   bigint       not null,
  record_time     datetime(3)  not null comment 'UTC',
  reason          varchar(500) not null,
  sql_state       char(5)      not null comment 'where the database refused it, else empty',
  payload         longblob     null     comment 'null for a tombstone',
  payload_bytes   bigint       not null comment 'more than the payload''s length where it did not fit a packet',
  record_key      varbinary(1024) null,
  rejected_at     datetime(6)  not null,
  primary key (topic_id, partition_id, record_offset)
) default character set utf8mb4 collate utf8mb4_bin;

-- Dead letters whose repaired event was stored; the key admits each once.
create table if not exists toll_retry (
  topic_id        char(22)     not null,
  partition_id    int          not null comment 'of the dead letter',
  record_offset   bigint       not null,
  stored_partition int         not null comment 'of the repaired event',
  stored_offset   bigint       not null,
  primary key (topic_id, partition_id, record_offset)
) default character set utf8mb4 collate utf8mb4_bin;
