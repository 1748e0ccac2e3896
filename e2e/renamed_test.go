package e2e

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/pgtest"
	"github.com/outboxstream/streamer/internal/testserver"
)

// A database that was renamed after a crash is not a new one. Its stream has
// another name, under which everything above the slot's position would be
// repeated.
func TestRenamedDatabase(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"15", "17", "18"} {
		for _, store := range []string{"kafka", "postgres", "file"} {
			t.Run(version+" "+store, func(t *testing.T) {
				t.Parallel()
				if version != "15" {
					testserver.Long(t)
				}
				r := newRig(t, outboxTable, withServer(pgtest.New(t, pgtest.Options{Version: version})), withStore(store))
				p := r.startReady()
				r.numbered("o1", 1, 2)
				r.published(p, "o1", 1, 2)
				r.confirmed(p)
				p.kill()
				before, renamed := r.db.Config().Database, "renamed"
				r.rename(before, renamed)
				var sentence string
				for range 2 {
					sentence = r.start().refused(exitRefused, before, renamed, "streamer checkpoint set")
				}
				r.notices("FAIL", "checkpoint", before, "streamer checkpoint set")
				if store == "postgres" { // one remedy, and the other
					_, remedy, _ := strings.Cut(sentence, "`streamer ")
					remedy, _, _ = strings.Cut(remedy, "`")
					output, code := r.command(strings.Fields(remedy)...)
					require.Zero(t, code, output)
					defer r.rename(renamed, before)
				} else {
					r.rename(renamed, before)
				}
				p = r.startReady()
				r.db = r.open()
				r.numbered("o1", 3)
				r.published(p, "o1", 1, 2, 3)
				assert.Zero(t, p.stop())
			})
		}
	}
}

// rename renames the database and makes the streamer connect under the new
// name.
func (r *rig) rename(from, to string) {
	r.t.Helper()
	require.NoError(r.t, r.db.Close(r.t.Context()))
	r.db = r.connectTo("postgres")
	r.exec("select pg_terminate_backend(pid) from pg_stat_activity where datname = $1", from)
	require.Eventually(r.t, func() bool {
		_, err := r.db.Exec(r.t.Context(), "alter database "+pgx.Identifier{from}.Sanitize()+" rename to "+pgx.Identifier{to}.Sanitize())
		return err == nil
	}, patience, 20*time.Millisecond)
	r.dsn = dsnOf(r.t, r.dsn, func(u *url.URL) { u.Path = "/" + to })
}

// connectTo connects to another database of the server.
func (r *rig) connectTo(database string) *pgx.Conn {
	r.t.Helper()
	other := *r
	other.dsn = dsnOf(r.t, r.dsn, func(u *url.URL) { u.Path = "/" + database })
	return other.open()
}
