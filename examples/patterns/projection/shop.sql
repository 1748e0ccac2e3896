create table movement (
  number   bigint primary key,
  customer text not null,
  item     text,               -- null: a payment
  amount   bigint not null
);
