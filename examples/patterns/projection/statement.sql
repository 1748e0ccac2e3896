create table if not exists statement (
  customer  text primary key,
  events    bigint not null,
  spent     bigint not null,
  paid      bigint not null,
  latest    text[] not null,   -- the five latest purchases, the newest last
  digest    text not null      -- of all events in their order: the same only for the same history
);
