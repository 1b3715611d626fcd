-- The tables of tollstream. `tollstream init` runs this file; it also runs as it is in the mysql or mariadb client.

-- Exactly once needs transactions, which other storage engines lack.
set default_storage_engine = InnoDB;

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
  resetting       tinyint      not null default 0 comment 'not 0 while a reset has begun and not ended',
  windows         varchar(250) not null default '' comment 'kinds of windows that are counted; empty until the first process records them',
  lateness_seconds int         not null default 0 comment 'how far behind its partition''s clock an event is still on time; recorded with the windows'
) engine=InnoDB default character set utf8mb4 collate utf8mb4_bin;

-- Rows that livetolldata held before tollstream: counted once, by init. Plaza -32769 stands for NULL.
create table if not exists toll_baseline (
  toll_plaza_id   int             not null primary key,
  events          bigint          not null,
  checksum        bigint unsigned not null comment 'sum of the CRC-32 of each row''s text, modulo 2^64'
) engine=InnoDB default character set utf8mb4 collate utf8mb4_bin;

-- What left on purpose, by tollstream itself, so that it is not missed: rows of livetolldata by plaza (as in toll_baseline),
-- dead letters by partition.
create table if not exists toll_pruned (
  what            varchar(16)     not null comment 'rows, dead_letters',
  id              int             not null comment 'plaza or partition',
  pruned          bigint          not null,
  checksum        bigint unsigned not null comment 'of rows, as in toll_baseline; else 0',
  primary key (what, id)
) engine=InnoDB default character set utf8mb4 collate utf8mb4_bin;

-- Up to where what is old was deleted. It is written in the transaction that deletes.
create table if not exists toll_retired (
  what            varchar(32)     not null comment 'rows; window and its kind: window 15m',
  before_minute   int             not null comment 'minutes since 1970 UTC: windows that end at or before it, rows of it or earlier',
  primary key (what)
) engine=InnoDB default character set utf8mb4 collate utf8mb4_bin;

-- Processes: each renews its row every ten seconds. Times are UTC, by the server's clock.
create table if not exists toll_process (
  instance        varchar(249)    not null primary key,
  version         varchar(64)     not null,
  started_at      datetime(6)     not null,
  seen_at         datetime(6)     not null comment 'of the last heartbeat',
  stopped_at      datetime(6)     null     comment 'null while it runs, and where it was killed',
  ended           tinyint         not null comment '1 where it stopped at the end of the topic, as asked',
  problem         varchar(500)    not null comment 'checks that fail; empty while it does its work',
  stalled_since   datetime(6)     null     comment 'since when windows are due and none is stored; null where they are stored',
  arrived_at      datetime(6)     null     comment 'when it observed the last event to arrive; null for not yet',
  arrival_share   double          null     comment 'share of the last ten-second slots in which events arrived; null for not known',
  drain_per_second double         not null comment 'by how many records a second its lag falls'
) engine=InnoDB default character set utf8mb4 collate utf8mb4_bin;

-- Progress: one row a source partition, moved by compare-and-set in the transaction that stores a batch.
create table if not exists toll_cursor (
  topic_id        char(22)        not null,
  partition_id    int             not null,
  start_offset    bigint          not null comment 'where the partition began when it was first seen',
  next_offset     bigint          not null comment 'first offset that is not stored yet',
  token           bigint unsigned not null comment 'renewed at random by every batch',
  epoch           bigint unsigned not null comment 'raised by a rebuild',
  chain           longblob        not null comment 'per plaza the next_offset of its last batch, encoded',
  clock           blob            null     comment 'event time of the partition, encoded; null before its first event',
  last_offset     bigint          null     comment 'of the last record consumed, rejected ones included; null before the first',
  last_leader_epoch int           null     comment 'of that record, as Kafka stores it; null where not known',
  last_timestamp  bigint          null     comment 'of that record, milliseconds since 1970 UTC, as Kafka stores it',
  last_crc        int unsigned    null     comment 'of that record: CRC-32C of its key and value',
  log_replaced    varchar(500)    not null default '' comment 'why the log is not the one that was consumed; empty while it is',
  updated_at      datetime(6)     not null,
  primary key (topic_id, partition_id)
) engine=InnoDB default character set utf8mb4 collate utf8mb4_bin;

-- Logs of partitions that an operator accepted though they are not the ones that were stored: an older copy was
-- restored, or a log lost its end.
create table if not exists toll_accepted_log (
  topic_id        char(22)     not null,
  partition_id    int          not null,
  accepted_at     datetime(6)  not null comment 'UTC',
  next_offset     bigint       not null comment 'of the cursor then; rows below are of the log before',
  differs_from    bigint       null     comment 'offset from which the logs differ, by leader epochs; null where these don''t tell',
  rows_left       bigint       null     comment 'rows without a record, if they differ from there on',
  records_skipped bigint       null     comment 'records that are never stored, if they differ from there on',
  most_rows       bigint       not null comment 'the most rows without a record that there can be',
  most_records    bigint       not null comment 'the most records that are never stored that there can be',
  why             varchar(500) not null,
  primary key (topic_id, partition_id, accepted_at)
) engine=InnoDB default character set utf8mb4 collate utf8mb4_bin;

-- Every batch of rows, and the outbox of the deltas that the batch means for the group table.
create table if not exists toll_batch (
  topic_id        char(22)        not null,
  partition_id    int             not null,
  first_offset    bigint          not null comment 'the batch is the offsets [first_offset, next_offset)',
  next_offset     bigint          not null,
  token           bigint unsigned not null,
  events          bigint          not null comment 'rows of livetolldata',
  extra_events    bigint          not null default 0 comment 'of the events: those beyond the first of their record',
  rejected        bigint          not null comment 'rows of toll_dead_letter',
  skipped         bigint          not null comment 'offsets that held no record for us',
  gone            bigint          not null default 0 comment 'of the skipped: records that retention deleted before they were stored',
  published       tinyint         not null comment '1 once every delta is acknowledged by the broker',
  deltas          longblob        not null comment 'per plaza: count, checksum, minutes; encoded',
  stored_at       datetime(6)     not null,
  first_minute    int             null     comment 'of its events, in minutes since 1970 UTC; null for none',
  last_minute     int             null,
  batches         int             not null default 1 comment 'how many were compacted into this row',
  folded_minute   int             null     comment 'minutes before it were rolled up; null for a batch whose minutes are all there',
  primary key (topic_id, partition_id, first_offset),
  key unpublished (published, topic_id, partition_id, first_offset),
  key minutes (topic_id, partition_id, last_minute, first_minute)
) engine=InnoDB default character set utf8mb4 collate utf8mb4_bin;

-- Records that can't be a row, as they were received.
create table if not exists toll_dead_letter (
  topic_id        char(22)     not null,
  partition_id    int          not null,
  record_offset   bigint       not null,
  record_time     datetime(3)  not null comment 'UTC',
  kind            varchar(24)  not null default '' comment 'why, as a code; see the documentation of dead letters',
  reason          varchar(500) not null comment 'why, in words',
  sql_state       char(5)      not null comment 'where the database refused it, else empty',
  error_number    int          not null default 0 comment 'of the database where it refused it, else 0',
  retry_partition int          null     comment 'of the dead letter that the record was to repair; null where it was no retry',
  retry_offset    bigint       null     comment 'the same',
  payload         longblob     null     comment 'null for a tombstone',
  payload_bytes   bigint       not null comment 'more than the payload''s length where it did not fit a packet',
  record_key      varbinary(1024) null,
  rejected_at     datetime(6)  not null,
  primary key (topic_id, partition_id, record_offset)
) engine=InnoDB default character set utf8mb4 collate utf8mb4_bin;

-- Dead letters whose repaired event was stored; the key admits each once.
create table if not exists toll_retry (
  topic_id        char(22)     not null,
  partition_id    int          not null comment 'of the dead letter',
  record_offset   bigint       not null,
  stored_partition int         not null comment 'of the repaired event',
  stored_offset   bigint       not null,
  primary key (topic_id, partition_id, record_offset)
) engine=InnoDB default character set utf8mb4 collate utf8mb4_bin;

-- The plazas that the plazas file configures.
create table if not exists toll_plaza (
  toll_plaza_id   smallint     not null primary key,
  name            varchar(250) not null,
  road            varchar(250) not null,
  position_km     double       not null,
  lanes           int          not null comment '0 where not known',
  capacity_per_lane double     not null comment 'passenger cars an hour',
  timezone        varchar(64)  not null comment 'IANA name; its windows align to it; empty for that of toll_meta'
) engine=InnoDB default character set utf8mb4 collate utf8mb4_bin;

-- Closed windows. window_start and window_end are in the timezone of toll_meta, as livetolldata.timestamp is:
-- timestamp >= window_start and timestamp < window_end holds for the events of a window and for those too late for it.
create table if not exists toll_window (
  toll_plaza_id   smallint        not null,
  kind            varchar(16)     not null comment 'as in toll_meta.windows: 1m, 5m/1m, 1h, day',
  start_minute    int             not null comment 'minutes since 1970 UTC; the window is [start_minute, end_minute)',
  end_minute      int             not null comment 'of a day so far, how far it was counted',
  window_start    datetime        not null,
  window_end      datetime        not null,
  whole           tinyint         not null comment '0 for a day so far',
  epoch           bigint unsigned not null comment 'toll_cursor.epoch of what it was counted from',
  revision        bigint          not null comment 'from 1; 0 where all events came too late. Of one epoch: a rebuild after lost commits may use the same number again',
  events          bigint          not null,
  late            bigint          not null comment 'of the events, those that came after the watermark',
  too_late        bigint          not null comment 'events that came too late to be counted, up to now',
  result_too_late bigint          not null comment 'the same when the revision was made, as it is published',
  by_type         text            not null comment 'events by vehicle type, JSON',
  flow_per_hour   double          not null comment 'vehicles an hour',
  reason          varchar(16)     not null comment 'why it closed: watermark, idle, end of stream',
  published       tinyint         not null comment '1 once the revision is acknowledged by the broker',
  stored_at       datetime(6)     not null,
  primary key (toll_plaza_id, kind, start_minute),
  key unpublished (published, toll_plaza_id)
) engine=InnoDB default character set utf8mb4 collate utf8mb4_bin;

-- How each plaza stands, and for how long it has. Times are in the timezone of toll_meta.
create table if not exists toll_congestion (
  toll_plaza_id   smallint     not null primary key,
  state           varchar(16)  not null comment 'no_data, free, busy, saturated, below_usual, above_usual',
  since           datetime     not null,
  why             text         not null,
  assessed        datetime     not null comment 'the figures are of the quarter of an hour before, phf of the hour',
  assessed_until  int          not null comment 'the same in minutes since 1970 UTC',
  vehicles_15m    bigint       not null,
  flow_per_hour   double       not null comment 'vehicles an hour',
  heavy_share     double       null     comment 'of the vehicles; null without a vehicle',
  phf             double       null     comment 'peak-hour factor',
  demand          double       not null comment 'passenger cars an hour',
  capacity        double       null     comment 'the same; null where the lanes are not known',
  vc              double       null     comment 'throughput by capacity',
  usual_15m       double       null     comment 'median of the vehicles at this time in the weeks before',
  usual_weeks     int          not null,
  z               double       null     comment 'robust z-score of vehicles_15m; null with too few weeks',
  assessment      text         not null comment 'all of it, JSON',
  updated_at      datetime(6)  not null
) engine=InnoDB default character set utf8mb4 collate utf8mb4_bin;

-- Changes of state: onset and end of congestion.
create table if not exists toll_transition (
  toll_plaza_id   smallint     not null,
  detected_minute int          not null comment 'minutes since 1970 UTC',
  since_minute    int          not null,
  detected        datetime     not null comment 'in the timezone of toll_meta',
  since           datetime     not null comment 'when it began',
  from_state      varchar(16)  not null,
  to_state        varchar(16)  not null,
  why             text         not null,
  measure         text         not null comment 'the figures that decided it, JSON',
  epoch           bigint unsigned not null default 0 comment 'toll_cursor.epoch of what it was judged from; 0 where not known',
  published       tinyint      not null comment '1 once it is acknowledged by the broker',
  stored_at       datetime(6)  not null,
  primary key (toll_plaza_id, detected_minute),
  key unpublished (published, toll_plaza_id),
  key began (since_minute, toll_plaza_id)
) engine=InnoDB default character set utf8mb4 collate utf8mb4_bin;

-- What people noted about an incident, which is named by its plaza and the minute of its first transition. Rows are only added.
create table if not exists toll_incident_note (
  toll_plaza_id   smallint      not null,
  detected_minute int           not null comment 'of the first transition, minutes since 1970 UTC',
  noted_at        datetime(6)   not null comment 'UTC',
  author          varchar(100)  not null comment 'the name of the token, or the user of the command',
  source          varchar(100)  not null comment 'where from: an address, or the command and its host',
  acknowledged    tinyint       not null comment '1 where somebody takes care of it from now on',
  note            varchar(1000) not null,
  primary key (toll_plaza_id, detected_minute, noted_at)
) engine=InnoDB default character set utf8mb4 collate utf8mb4_bin;

-- The outbox of notifications: a row a transition that begins, changes or ends an incident, where a process notifies.
create table if not exists toll_notification (
  toll_plaza_id   smallint     not null,
  detected_minute int          not null comment 'of the transition',
  created_at      datetime(6)  not null comment 'UTC, as the times below',
  attempts        int          not null comment 'begun; each claims the row until next_attempt',
  next_attempt    datetime(6)  not null,
  outcome         varchar(8)   not null comment 'empty while it is pending; sent, given_up',
  finished_at     datetime(6)  null,
  error           varchar(500) not null comment 'why the last attempt failed',
  primary key (toll_plaza_id, detected_minute),
  key due (outcome, next_attempt)
) engine=InnoDB default character set utf8mb4 collate utf8mb4_bin;
