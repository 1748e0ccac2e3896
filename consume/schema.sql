-- The inbox of github.com/outboxstream/streamer/consume. It belongs into the
-- database that the handler changes, so that one transaction covers both.

create schema if not exists inbox;

-- Who consumes. The number stands for the name in all other tables.
create table if not exists inbox.consumer (
  number         integer generated always as identity primary key,
  name           text not null unique check (name <> ''),
  consumer_group text not null check (consumer_group <> ''),
  registered_at  timestamptz not null default now()
);

-- The ledger: which events are handled, or are in the hands of somebody. What a
-- range covers is removed from here, so that this table stays small.
create table if not exists inbox.claim (
  consumer   integer not null,
  source     text not null,
  id         text not null,
  claimed_at timestamptz not null default now(),
  guard      boolean not null default false, -- the last claim of its transaction: see inbox.seal
  primary key (consumer, source, id)
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

create index if not exists claim_age on inbox.claim using brin (claimed_at);

-- The watermarks: of a stream, everything that a partition has from first to last
-- is handled. One row a partition, one more for the keys that each growth of the
-- topic has brought it, and one more wherever something was left out.
create table if not exists inbox.range (
  consumer   integer not null,
  topic      text not null,
  partition  integer not null,
  stream     text collate "C" not null,  -- the header streamer-stream
  first      text collate "C" not null,  -- the attribute sequence
  last       text collate "C",           -- null: not even the first one yet
  partitions integer not null,           -- of the topic when its keys came here
  primary key (consumer, topic, partition, stream, partitions, first)
) with (fillfactor = 50);

-- How far each partition is handled, whoever wrote what is in it.
create table if not exists inbox.position (
  consumer    integer not null,
  topic       text not null,
  partition   integer not null,
  next_offset bigint not null,
  updated_at  timestamptz not null default now(),
  primary key (consumer, topic, partition)
) with (fillfactor = 50);

-- How many partitions each topic has had, as far as the consumer knows.
create table if not exists inbox.topic (
  consumer   integer not null,
  topic      text not null,
  partitions integer not null,
  noticed_at timestamptz not null default now(),
  primary key (consumer, topic, partitions)
);

-- Where a partition has to wait for others, because keys have come to it when the
-- topic got more partitions: at the first event of the stream, and, if that was
-- there before, at the first one that a replay has published.
create table if not exists inbox.arrival (
  consumer   integer not null,
  topic      text not null,
  partition  integer not null,
  partitions integer not null, -- of the topic since then
  stream     text collate "C" not null,
  replay     boolean not null,
  "offset"   bigint not null,
  waits      boolean not null default true,
  primary key (consumer, topic, partition, partitions, stream, replay)
);

-- From which sequence on the keys that a growth has moved are in their new
-- partition. Each former partition has a boundary of its own: a streamer that
-- crashed before had written more to one than to another.
create table if not exists inbox.growth (
  consumer   integer not null,
  topic      text not null,
  partition  integer not null,
  partitions integer not null, -- of the topic since then
  former     integer not null,
  stream     text collate "C" not null,
  first      text collate "C" not null,
  primary key (consumer, topic, partition, partitions, former, stream)
);

-- Keys whose events wait, because one of them could not be handled.
create table if not exists inbox.parked_key (
  consumer     integer not null,
  topic        text not null,
  key          bytea not null,
  parked_at    timestamptz not null default now(),
  attempts     integer not null,
  reason       text not null,
  request      text check (request in ('release', 'dead letter')), -- null: wait
  requested_by text,
  primary key (consumer, topic, key)
);

-- The events of these keys, in order.
create table if not exists inbox.parked (
  consumer  integer not null,
  topic     text not null,
  key       bytea not null,
  number    bigint generated always as identity,
  partition integer not null,
  "offset"  bigint not null,
  at        timestamptz not null, -- the record's timestamp
  no_key    boolean not null,     -- the record has no key; "key" stands for its partition
  value     bytea,
  headers   bytea[] not null,     -- name, value, name, value, …
  parked_at timestamptz not null default now(),
  primary key (consumer, topic, key, number)
);

-- register returns a consumer's number.
create or replace function inbox.register(p_name text, p_group text) returns integer
language plpgsql as $$
declare known inbox.consumer;
begin
  insert into inbox.consumer (name, consumer_group) values (p_name, p_group) on conflict (name) do nothing;
  select * into known from inbox.consumer where name = p_name;
  if known.consumer_group <> p_group then
    raise exception 'consumer "%" belongs to the group "%", not to "%"', p_name, known.consumer_group, p_group
      using errcode = 'ZI001', hint = 'Two consumers need two names. If this one has moved to another group: '
        || 'update inbox.consumer set consumer_group = … where name = …';
  end if;
  return known.number;
end $$;

-- take claims events of one key for this transaction, and says which of them are
-- to be handled: the others were handled before. The order of the arrays is that
-- of the events. sequence and stream are null where no range can judge an event.
-- homes are the partitions in which the key's events can be, and counts how many
-- partitions the topic had then: the present first, and then backwards in time.
create or replace function inbox.take(
  p_consumer integer, p_topic text, p_homes integer[], p_key bytea,
  p_source text[], p_id text[], p_stream text[], p_sequence text[], p_guard boolean, p_counts integer[] default null,
  out transaction text, out parked boolean, out fresh boolean[])
language plpgsql as $$
declare covered boolean[];
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'the inbox needs the isolation level read committed, not %', current_setting('transaction_isolation')
      using errcode = 'ZI002', hint = 'Begin the transaction with it.';
  end if;
  transaction := pg_current_xact_id()::text;
  perform 1 from inbox.parked_key k
    where k.consumer = p_consumer and k.topic = p_topic and k.key = p_key for key share;
  parked := found;

  -- Whoever has claimed an event and has not yet committed is waited for here.
  with offered as (
    select * from unnest(p_source, p_id) with ordinality as o (source, id, n)
  ), taken as (
    insert into inbox.claim (consumer, source, id, guard)
      select p_consumer, o.source, o.id, p_guard and o.n = cardinality(p_id) from offered o order by o.n
      on conflict do nothing returning claim.source, claim.id
  )
  select array_agg(t.id is not null order by o.n) into fresh
    from offered o left join taken t on t.source = o.source and t.id = o.id;

  -- Only now, in a snapshot that is younger than the claims: a claim is removed in
  -- the transaction that moves the range over it. So whoever finds no claim finds
  -- the range.
  if array_position(fresh, true) is not null then
    select array_agg(inbox.covers(p_consumer, p_topic, p_homes, p_counts, e.stream, e.sequence) order by e.n) into covered
      from unnest(p_stream, p_sequence) with ordinality as e (stream, sequence, n);
    if array_position(covered, true) is not null then
      delete from inbox.claim c using unnest(p_source, p_id, fresh, covered) as e (source, id, fresh, covered)
        where e.fresh and e.covered and c.consumer = p_consumer and c.source = e.source and c.id = e.id;
      select array_agg(e.fresh and not e.covered order by e.n) into fresh
        from unnest(fresh, covered) with ordinality as e (fresh, covered, n);
    end if;
  end if;
end $$;

-- covers reports whether an event is in a range of the partition in which it was,
-- if it was anywhere. Events of a key were in an earlier home of the key if they
-- are from before the first event that has come from there to the later home.
create or replace function inbox.covers(
  p_consumer integer, p_topic text, p_homes integer[], p_counts integer[], p_stream text, p_sequence text) returns boolean
language plpgsql as $$
declare
  chosen integer := cardinality(p_homes);
begin
  if p_stream is null or p_sequence is null then
    return false;
  end if;
  for era in 1 .. cardinality(p_homes) - 1 loop
    perform 1 from inbox.growth g
      where g.consumer = p_consumer and g.topic = p_topic and g.partition = p_homes[era]
        and g.partitions = p_counts[era] and g.former = p_homes[era + 1] and g.stream = p_stream
        and g.first <= p_sequence collate "C";
    if found then
      chosen := era;
      exit;
    end if;
  end loop;
  return exists (
    select from inbox.range r
      where r.consumer = p_consumer and r.topic = p_topic and r.partition = p_homes[chosen] and r.stream = p_stream
        and r.partitions = coalesce(p_counts[chosen], 0)
        and r.first <= p_sequence collate "C" and r.last >= p_sequence collate "C");
end $$;

-- seal allows the transaction to commit. Without it the commit fails, so that a
-- handler that ends the transaction itself loses and repeats nothing.
create or replace function inbox.seal(p_transaction text) returns void
language plpgsql as $$
begin
  if pg_current_xact_id_if_assigned()::text is distinct from p_transaction then
    raise exception 'the handler has ended the transaction of the inbox'
      using errcode = 'ZI003', hint = 'Leave COMMIT and ROLLBACK to the inbox. Savepoints are allowed.';
  end if;
  perform set_config('inbox.sealed', p_transaction, true);
end $$;

create or replace function inbox.guard() returns trigger
language plpgsql as $$
begin
  if current_setting('inbox.sealed', true) is distinct from pg_current_xact_id()::text then
    raise exception 'the transaction of the inbox was committed before its end'
      using errcode = 'ZI003', hint = 'Leave COMMIT and ROLLBACK to the inbox. Savepoints are allowed.';
  end if;
  return null;
end $$;

do $$
begin
  if not exists (select from pg_trigger where tgrelid = 'inbox.claim'::regclass and tgname = 'guard') then
    create constraint trigger guard after insert on inbox.claim
      deferrable initially deferred for each row when (new.guard) execute function inbox.guard();
  end if;
end $$;

-- fold moves the ranges of a partition up to what is handled without a gap, and
-- removes the claims that they cover now. It is called with what is committed.
create or replace function inbox.fold(
  p_consumer integer, p_topic text, p_partition integer, p_next bigint,
  p_stream text[], p_partitions integer[], p_first text[], p_last text[], p_source text[], p_id text[]) returns void
language plpgsql as $$
begin
  insert into inbox.position as p (consumer, topic, partition, next_offset)
    values (p_consumer, p_topic, p_partition, p_next)
    on conflict (consumer, topic, partition) do update
      set next_offset = excluded.next_offset, updated_at = now() where p.next_offset < excluded.next_offset;
  update inbox.range r set last = e.last
    from unnest(p_stream, p_partitions, p_first, p_last) as e (stream, partitions, first, last)
    where r.consumer = p_consumer and r.topic = p_topic and r.partition = p_partition
      and r.stream = e.stream and r.partitions = e.partitions and r.first = e.first and (r.last is null or r.last < e.last collate "C");
  delete from inbox.claim c using unnest(p_source, p_id) as e (source, id)
    where c.consumer = p_consumer and c.source = e.source and c.id = e.id;
end $$;
