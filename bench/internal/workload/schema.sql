-- The outbox, the other tables, and what fills them on the server: a client
-- that writes a million rows over a connection takes many times as long.
CREATE TABLE outbox (
    id            uuid PRIMARY KEY,
    aggregatetype text NOT NULL,
    aggregateid   text NOT NULL,
    type          text NOT NULL,
    payload       jsonb NOT NULL
);
CREATE TABLE other (id bigint PRIMARY KEY, body text NOT NULL);
CREATE PUBLICATION streamer FOR TABLE outbox WITH (publish = 'insert', publish_via_partition_root = true);

-- Texts that do not compress: more of them than fit into the window of lz4.
CREATE TABLE filler (n int PRIMARY KEY, body text NOT NULL);

CREATE FUNCTION random_text(seed text, length int) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT left(string_agg(md5(seed || i), ''), length) FROM generate_series(1, length / 32 + 1) i
$$;

-- payload is an event as services write it: names that repeat, values that do
-- not. jsonb sorts by the length of the name, so "n" comes first.
CREATE FUNCTION payload(n bigint, filler text) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT ('{"n": ' || n || ', "version": ' || n / 10000 || ', "order_id": "order-' || n % 10000
        || '", "amount_cents": ' || n * 7919 % 99991 || ', "status": "confirmed", "note": "' || filler || '"}')::jsonb
$$;

-- write_rows writes the outbox rows from first to before first + rows.
CREATE FUNCTION write_rows(first bigint, rows bigint, types int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload)
    SELECT lpad(to_hex(i), 32, '0')::uuid, 'type' || (i * 7919 % 10000) % types, 'aggregate-' || i * 7919 % 10000,
           'order.confirmed', payload(i, body)
    FROM generate_series(first, first + rows - 1) i JOIN filler ON n = i % 1024
    ORDER BY i;
END
$$;

-- write_load writes transactions of the same size, with others rows of the other
-- table for each row of the outbox.
CREATE PROCEDURE write_load(rows bigint, per_transaction bigint, others int, types int) LANGUAGE plpgsql AS $$
DECLARE
    first bigint := 0;
BEGIN
    WHILE first < rows LOOP
        PERFORM write_rows(first, per_transaction, types);
        IF others > 0 THEN
            INSERT INTO other (id, body)
            SELECT i, body
            FROM generate_series(first * others, (first + per_transaction) * others - 1) i JOIN filler ON n = i % 1024;
        END IF;
        first := first + per_transaction;
        COMMIT;
    END LOOP;
END
$$;
