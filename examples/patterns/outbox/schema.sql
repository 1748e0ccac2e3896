create table outbox (
  id            uuid primary key default gen_random_uuid(),
  aggregatetype text not null,  -- chooses the topic
  aggregateid   text not null,  -- key and subject
  type          text not null,
  payload       jsonb,
  created_at    timestamptz not null default clock_timestamp()
);
