package doctor

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/internal/config"
)

func TestStoredCheckpoint(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.save(nil)
	e := r.examine()
	require.NoError(t, e.err)
	e.says(Fine, "checkpoint", "in file").says(Fine, "position", "checkpoint").says(Fine, "resume", "exactly once")
	e.silent("timeline", "publication")

	r.save(func(c *checkpoint.Record) { c.Timeline = 7 })
	r.examine().says(Warned, "timeline", "timeline 1", "timeline 7", "streamer run")

	r.save(func(c *checkpoint.Record) { c.LSN += 1 << 40 })
	r.examine().says(Failed, "position", "ahead of the server")

	r.save(func(c *checkpoint.Record) { c.Publication = "{}" }) // another one than there is now
	r.examine().says(Failed, "publication", r.slot)

	r.dropSlot()
	r.save(nil)
	r.examine().says(Fine, "checkpoint", "in file").silent("position", "resume")
	require.NoError(t, os.WriteFile(r.settings["checkpoint.file.path"], []byte("damaged"), 0o600))
	r.examine().says(Failed, "checkpoint", "damaged")
}

// A slot that was created again begins behind what was published.
func TestSlotThatWasCreatedAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.save(nil)
	r.dropSlot()
	r.insert("1", "order", "a")
	r.makeSlot()
	r.examine().says(Failed, "position", r.slot, "streamer checkpoint set slot --yes")
}

func TestWhatAStartRepeats(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		resume, reason string
		verdict        Verdict
		words          []string
	}{
		"nothing":         {"auto", "", Fine, []string{"exactly once"}},
		"by choice":       {"at_least_once", "of the configuration", Fine, []string{"at least once", "of the configuration"}},
		"for want of ACL": {"auto", "not allowed", Warned, []string{"at least once", "not allowed"}},
		"although not":    {"exactly_once", "not allowed", Warned, []string{"not allowed"}},
	} {
		d := with(config.Config{Kafka: config.Kafka{Resume: c.resume}})
		d.resumes(checkpoint.Record{AtLeastOnce: c.reason})
		require.Len(t, d.found, 1, name)
		d.report(t).says(c.verdict, "resume", c.words...)
	}
}

// The record is found by the slot, whatever the database was called.
func TestRenamedDatabase(t *testing.T) {
	t.Parallel()
	r := newRig(t, "checkpoint.store=postgres")
	r.examine().says(Fine, "checkpoint", "none in table public.streamer_checkpoint")
	cfg := r.config()
	store, err := site.OpenCheckpointTable(t.Context(), cfg)
	require.NoError(t, err)
	defer store.Close()
	server := r.server()
	server.Database = "no_longer_there"
	former := checkpoint.Record{Identity: site.IdentityOf(server, cfg), Timeline: server.Timeline, LSN: server.Flushed}
	require.NoError(t, store.Claim(t.Context(), former.Identity))
	require.NoError(t, store.Save(t.Context(), former))
	r.examine().says(Failed, "checkpoint", "no_longer_there", "ALTER DATABASE")
}

// A checkpoint that can be read cannot necessarily be replaced.
func TestCheckpointTableThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	r := newRig(t, "checkpoint.store=postgres")
	store, err := site.OpenCheckpointTable(t.Context(), r.config())
	require.NoError(t, err)
	require.NoError(t, store.Close())
	r.exec("grant select on streamer_checkpoint to public")
	r.examine("postgres.dsn="+r.role("replication")).says(Failed, "checkpoint", "streamer_checkpoint")
	r.examine("checkpoint.postgres.dsn=file:"+filepath.Join(t.TempDir(), "dsn")).says(Failed, "checkpoint", "checkpoint.postgres.dsn")
}

// role creates a role with these attributes and returns its DSN.
func (r *rig) role(attributes string) (dsn string) {
	r.t.Helper()
	name := r.slot + "_" + strings.ReplaceAll(attributes, " ", "_")
	quoted := pgx.Identifier{name}.Sanitize()
	r.exec("create role " + quoted + " login " + attributes)
	r.t.Cleanup(func() { r.exec("drop owned by " + quoted); r.exec("drop role " + quoted) })
	r.exec("grant usage on schema public to " + quoted)
	config, err := pgx.ParseConfig(r.dsn)
	require.NoError(r.t, err)
	old := "//" + config.User + "@"
	require.Contains(r.t, r.dsn, old)
	return strings.Replace(r.dsn, old, "//"+name+"@", 1)
}

func TestCheckpointInATopicThatCannotBeReached(t *testing.T) {
	t.Parallel()
	r := newRig(t, "checkpoint.store=kafka")
	e := r.examine("kafka.brokers=" + nowhere)
	e.says(Failed, "Kafka", nowhere, "nothing is lost").says(Failed, "checkpoint", "connect to Kafka").silent("checkpoint topic")
	assert.Equal(t, 2, e.Failures)
}
