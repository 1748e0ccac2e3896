create table events (
  id         uuid primary key default gen_random_uuid(),
  stream_id  text not null,
  version    bigint not null check (version > 0),
  type       text not null,
  data       jsonb not null,
  metadata   jsonb not null,
  created_at timestamptz not null default clock_timestamp(),
  unique (stream_id, version)   -- optimistic concurrency
);

-- A command that is given again, because its answer got lost, does nothing.
create unique index command on events ((metadata ->> 'correlation_id'));
