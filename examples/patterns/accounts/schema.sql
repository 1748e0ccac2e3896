create table account (
  customer text primary key,
  balance  bigint not null check (balance >= 0)  -- in cents
);

create table charge (
  order_id text primary key,
  customer text not null references account,
  amount   bigint not null check (amount > 0),
  state    text not null check (state in ('charged', 'refused', 'refunded'))
);
