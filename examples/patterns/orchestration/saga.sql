create table saga (
  order_id text primary key,
  customer text not null,
  amount   bigint not null,
  item     text not null,
  quantity bigint not null,
  step     text not null check (step in ('charging', 'reserving', 'releasing', 'refunding', 'confirmed', 'cancelled')),
  deadline timestamptz,   -- null: wait for as long as it takes
  timeouts integer not null default 0,
  late     integer not null default 0   -- replies that came too late
);

create index on saga (deadline) where deadline is not null;
