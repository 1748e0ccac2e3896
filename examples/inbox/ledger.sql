-- What the handler of the examples keeps: balances, and why they are what they are.
create table if not exists account (
  name    text primary key,
  balance bigint not null default 0
);

create table if not exists entry (
  number  bigint generated always as identity primary key,
  account text not null references account,
  amount  bigint not null,
  source  text not null, -- of the event
  event   text not null  -- its id
);
