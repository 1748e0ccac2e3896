package setup

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/pgtest"
)

// printedRig has what the printed statements create, on a server of its own:
// roles belong to the whole server.
func printedRig(t *testing.T, more ...string) *rig {
	t.Helper()
	r := newRigOn(t, pgtest.New(t, pgtest.Options{}), append([]string{
		`STREAMER_OUTBOX_TABLE=Odd 'schema.out-box`, "STREAMER_POSTGRES_PUBLICATION=It's \"the\" one",
		"STREAMER_CHECKPOINT_STORE=postgres", "STREAMER_OUTBOX_COLUMNS_TIME=Created At",
	}, more...)...)
	printed := r.setup(Command{Print: true})
	require.NoError(t, printed.err)
	sql, _, _ := strings.Cut(printed.out, "# Kafka.")
	for statement := range strings.SplitSeq(sql, ";\n") {
		r.exec(statement)
	}
	return r
}

// checkpointColumnsSQL describes the columns of the checkpoint table.
const checkpointColumnsSQL = `select string_agg(attname || ' ' || format_type(atttypid, atttypmod) || ' ' || attnotnull || ' ' || ` +
	`coalesce(pg_get_expr(adbin, adrelid), ''), ', ' order by attnum)
	from pg_attribute left join pg_attrdef on adrelid = attrelid and adnum = attnum ` +
	`where attrelid = 'public.streamer_checkpoint'::regclass and attnum > 0`

func TestPrintedStatementsWork(t *testing.T) {
	t.Parallel()
	r := printedRig(t)

	// With the role that they create, setup finds nothing to do or to complain
	// about.
	got := r.setup(Command{}, "STREAMER_POSTGRES_DSN="+r.as(Role))
	require.NoError(t, got.err)
	assert.NotContains(t, got.out, "created")
	assert.NotContains(t, got.out, "warning")
	assert.Contains(t, got.out, "exists   checkpoint table public.streamer_checkpoint")

	// The checkpoint table is the same as the store itself creates.
	ours := value[string](r, checkpointColumnsSQL)
	r.exec("drop table public.streamer_checkpoint")
	got = r.setup(Command{})
	require.NoError(t, got.err)
	assert.Contains(t, got.out, "created  checkpoint table public.streamer_checkpoint")
	assert.Contains(t, got.out, `GRANT SELECT, INSERT, UPDATE ON "public"."streamer_checkpoint" TO "`+Role+`"`)
	assert.Equal(t, value[string](r, checkpointColumnsSQL), ours)
}

// The role may do what outbox.cleanup does, wherever the table is.
func TestPrintedRightsAreEnoughToCleanUp(t *testing.T) {
	t.Parallel()
	r := printedRig(t, "STREAMER_OUTBOX_CLEANUP_MODE=delete")
	r.exec(`insert into "Odd 'schema"."out-box" (aggregatetype, aggregateid, type) values ('order', '1', 'T')`)
	role, err := pgx.Connect(t.Context(), r.as(Role))
	require.NoError(t, err)
	defer role.Close(t.Context())
	for _, sql := range []string{`select from "Odd 'schema"."out-box"`, `delete from "Odd 'schema"."out-box"`} {
		done, err := role.Exec(t.Context(), sql)
		require.NoError(t, err, sql)
		assert.EqualValues(t, 1, done.RowsAffected(), sql)
	}
	_, err = role.Exec(t.Context(), `update "Odd 'schema"."out-box" set type = 'U'`)
	assert.ErrorContains(t, err, "permission denied", "nothing else is granted")
}
