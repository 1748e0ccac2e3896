package replication

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/pgtest"
	"github.com/outboxstream/streamer/internal/testserver"
)

// The values of a generated column are not in the WAL's stream, although the
// column exists and PostgreSQL 15 lists it as published.
func TestGeneratedColumn(t *testing.T) {
	t.Parallel()
	for _, version := range testserver.Ends("14", "15", "17", "18") {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			if testing.Short() {
				t.Skip("downloads and starts servers")
			}
			f := newEmptyFixture(t, pgtest.New(t, pgtest.Options{Version: version}))
			f.exec("CREATE TABLE outbox (id int PRIMARY KEY, payload text GENERATED ALWAYS AS (id::text) STORED)")
			control := f.control()
			check := func() []Finding {
				table, err := control.DescribeTable(t.Context(), control.config.Outboxes[0])
				require.NoError(t, err)
				return CheckTable(table, f.config)
			}
			if version == "18" {
				require.Len(t, check(), 1, "setup creates the publication, and only then it is known what it publishes")
			} else {
				require.Len(t, check(), 2)
			}
			f.exec("CREATE PUBLICATION p FOR TABLE outbox WITH (publish = 'insert')")
			findings := check()
			require.Len(t, findings, 1)
			assert.True(t, findings[0].Fatal)
			assert.Contains(t, findings[0].Problem, `column "payload" of public.outbox is generated, and publication "p" does not publish`)
			assert.Contains(t, findings[0].Remedy, `ALTER TABLE "public"."outbox" ALTER COLUMN "payload" DROP EXPRESSION`)
			if version == "18" {
				assert.Contains(t, findings[0].Remedy, `ALTER PUBLICATION "p" SET (publish_generated_columns = stored)`)
				f.exec(`ALTER PUBLICATION "p" SET (publish_generated_columns = stored)`)
				assert.Empty(t, check())
				f.exec("ALTER TABLE outbox DROP COLUMN payload, ADD COLUMN payload text GENERATED ALWAYS AS ('x' || id::text) VIRTUAL")
				findings = check()
				require.Len(t, findings, 1)
				assert.NotContains(t, findings[0].Remedy, "ALTER")
				return
			}
			f.exec(`ALTER TABLE "public"."outbox" ALTER COLUMN "payload" DROP EXPRESSION`)
			assert.Empty(t, check())
		})
	}
}

func TestNotATable(t *testing.T) {
	t.Parallel()
	f := newEmptyFixture(t, pgtest.Shared(t))
	f.exec("CREATE TABLE events (id int, payload text)", "CREATE PUBLICATION p FOR TABLE events")
	control := f.control()
	for kind, test := range map[string]struct{ sql, drop, remedy string }{
		"a view": {
			"CREATE VIEW outbox AS SELECT * FROM events", "DROP VIEW outbox", "name the table from which it reads in outbox.table",
		},
		"a materialized view": {"CREATE MATERIALIZED VIEW outbox AS SELECT * FROM events", "DROP MATERIALIZED VIEW outbox", "outbox.table"},
		"a sequence":          {"CREATE SEQUENCE outbox", "DROP SEQUENCE outbox", "name a table in outbox.table"},
	} {
		f.exec(test.sql)
		table, err := control.DescribeTable(t.Context(), control.config.Outboxes[0])
		require.NoError(t, err)
		assert.False(t, table.Exists)
		findings := CheckTable(table, f.config)
		require.Len(t, findings, 1)
		assert.Equal(t, "public.outbox, which outbox.table names, is "+kind+": only rows of a table are in the WAL", findings[0].Problem)
		assert.Contains(t, findings[0].Remedy, test.remedy)
		err = control.ReadOutbox(t.Context(), OutboxQuery{Outbox: control.config.Outboxes[0]}, nil, nil)
		require.ErrorContains(t, err, "is "+kind)
		assert.Equal(t, failure.Refused, failure.ClassOf(err))
		f.exec(test.drop)
	}
}

// A type without a known binary form is found at the start, not at its first
// row.
func TestBinaryTypes(t *testing.T) {
	t.Parallel()
	f := newEmptyFixture(t, pgtest.Shared(t))
	f.exec(
		"CREATE TYPE mood AS ENUM ('ok')", "CREATE DOMAIN key AS varchar(20)", "CREATE DOMAIN inner_price AS numeric(10, 2)",
		"CREATE DOMAIN price AS inner_price",
		`CREATE TABLE outbox (a text, b varchar(9), c char(3), d "char", e name, f bool, g bytea, h int2, i int4, j int8, k uuid, l json, m jsonb,
			n timestamp(3), o timestamptz, p key, q numeric(9, 2), r mood, s price, t date)`,
		"CREATE PUBLICATION p FOR TABLE outbox WITH (publish = 'insert')",
	)
	table, err := f.control().DescribeTable(t.Context(), f.config.Outboxes[0])
	require.NoError(t, err)
	f.config.Outboxes[0].Columns = nil
	for _, column := range table.Columns {
		f.config.Outboxes[0].Columns = append(f.config.Outboxes[0].Columns, column.Name)
	}
	table.Outbox = f.config.Outboxes[0]
	assert.Empty(t, CheckTable(table, f.config))
	f.config.Binary = true
	var problems []string
	for _, finding := range CheckTable(table, f.config) {
		assert.True(t, finding.Fatal)
		assert.Equal(t, "set postgres.binary: false", finding.Remedy)
		problems = append(problems, finding.Problem)
	}
	assert.Equal(t, []string{
		`column "q" of public.outbox is numeric(9,2), whose binary form is not known`,
		`column "r" of public.outbox is public.mood, whose binary form is not known`,
		`column "s" of public.outbox is public.price, whose binary form is not known`,
		`column "t" of public.outbox is date, whose binary form is not known`,
	}, problems)
}
