-- The receiver's inbox: what it has had.
create table received (
  message_id text primary key,
  repeats    integer not null default 0
);

-- Its effect.
create table arrival (
  number   bigint generated always as identity primary key,
  order_id text not null,
  step     bigint not null
);
