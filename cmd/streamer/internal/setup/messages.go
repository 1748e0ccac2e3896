package setup

import (
	"context"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/replication"
)

// messages creates the functions that write messages, and says what there is not
// without a table.
func (s *setup) messages(ctx context.Context, control *replication.Control, database string) error {
	for _, o := range s.cfg.Tables() {
		if o.Messages == "" {
			continue
		}
		if s.CreateFunction {
			if err := control.CreateFunction(ctx, functionName(o), functionSQL(o, database)); err != nil {
				return err
			}
			s.report("function", functionName(o), false)
		}
		fmt.Fprintf(s.std.Out, "note     messages with prefix %q: %s\n", o.Messages, site.OnlyInWAL)
	}
	return nil
}

var notInNames = regexp.MustCompile(`[^a-z0-9]+`)

// functionName is the function that writes messages of an entry.
func functionName(o config.Outbox) string {
	return "public.emit_" + notInNames.ReplaceAllString(strings.ToLower(o.Messages), "_")
}

// sourceSQL is an SQL expression for the source of the function's messages. A
// general template can also hold what differs from event to event. Without the
// name of the database, the function asks for it.
func sourceSQL(o config.Outbox, database string) string {
	source := strings.ReplaceAll(o.Source, "{table}", o.Messages)
	if database != "" {
		source = strings.ReplaceAll(source, "{database}", url.PathEscape(database))
	}
	before, after, asks := strings.Cut(source, "{database}")
	switch {
	case strings.Contains(before+after, "{"):
		return replication.QuoteLiteral("/" + o.Messages)
	case asks:
		return replication.QuoteLiteral(before) + " || current_database() || " + replication.QuoteLiteral(after)
	}
	return replication.QuoteLiteral(source)
}

// functionSQL creates the function. It refuses what would make no event, in the
// transaction of the caller.
func functionSQL(o config.Outbox, database string) string {
	names := strings.NewReplacer(
		"FUNCTION_NAME", replication.QuoteTable(functionName(o)), "MESSAGE_PREFIX", replication.QuoteLiteral(o.Messages),
		"MESSAGE_SOURCE", sourceSQL(o, database),
	)
	return names.Replace(functionBody)
}

const functionBody = `CREATE OR REPLACE FUNCTION FUNCTION_NAME(
    aggregate_type text, aggregate_id text, event_type text, data jsonb DEFAULT NULL,
    attributes jsonb DEFAULT '{}', id text DEFAULT pg_catalog.gen_random_uuid()::text
) RETURNS text LANGUAGE plpgsql SET search_path = pg_catalog AS $function$
-- Writes an event in the caller's transaction, and returns its id. attributes are
-- further attributes of the CloudEvent, such as {"source": "/shop", "tenantid": "acme"}.
DECLARE
    event jsonb := jsonb_build_object(
        'specversion', '1.0', 'id', id, 'source', MESSAGE_SOURCE, 'type', event_type, 'subject', aggregate_id,
        'aggregatetype', aggregate_type, 'time', to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
    ) || coalesce(attributes, '{}');
    name text;
    value jsonb;
BEGIN
    FOREACH name IN ARRAY ARRAY['id', 'source', 'type', 'subject', 'aggregatetype'] LOOP
        IF jsonb_typeof(event -> name) IS DISTINCT FROM 'string' OR btrim(event ->> name) = '' THEN
            RAISE EXCEPTION 'an event needs a text that is not empty as its %', name USING ERRCODE = 'invalid_parameter_value';
        END IF;
    END LOOP;
    FOR name, value IN SELECT * FROM jsonb_each(event) LOOP
        IF name !~ '^[a-z0-9]+$' AND name <> 'data_base64' OR name IN ('sequence', 'replay', 'snapshot')
            OR name <> 'data' AND jsonb_typeof(value) IN ('object', 'array')
            OR name <> 'data' AND jsonb_typeof(value) = 'number' AND value::text !~ '^-?[0-9]{1,9}$' THEN
            RAISE EXCEPTION 'CloudEvents, or the streamer, does not allow the attribute % with this value', quote_literal(name)
                USING ERRCODE = 'invalid_parameter_value';
        END IF;
    END LOOP;
    IF data IS NOT NULL THEN
        event := event || jsonb_build_object('data', data);
    END IF;
    PERFORM pg_logical_emit_message(true, MESSAGE_PREFIX, event::text);
    RETURN event ->> 'id';
END $function$`
