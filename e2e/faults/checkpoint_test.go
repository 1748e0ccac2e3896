package faults

import (
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/pgtest"
	"github.com/outboxstream/streamer/internal/proxytest"
)

var (
	fileStore     = map[string]string{"checkpoint.store": "file"}
	postgresStore = map[string]string{"checkpoint.store": "postgres"}
)

var _ = register(
	fault{
		name: "its server stopped", group: checkpointGroup, stop: stopped,
		what:     "the checkpoints are in another PostgreSQL server, which is stopped for a while",
		settings: postgresStore, prepare: (*run).storeElsewhere, times: strikes(3), recover: true,
		strike: func(r *run) { require.NoError(r.t, r.store.StopImmediate()) },
		heal:   func(r *run) { require.NoError(r.t, r.store.StartAgain(r.ctx)) },
	},
	fault{
		name: "cannot be reached, attempts counted", group: checkpointGroup,
		what: "the checkpoints are in another PostgreSQL server, which cannot be reached for a while: " +
			"it is tried again after pauses that grow",
		settings: patientStore, prepare: (*run).storeBehindProxy, times: strikes(2), recover: true,
		strike: (*run).refuseStore,
		hold:   func(r *run) { pause(r.ctx, refusedFor) },
		heal:   (*run).reachStore,
	},
	fault{
		name: "errors, attempts counted", group: checkpointGroup,
		what:     "the server of the checkpoints answers every write with an error for a while: it is tried again after pauses that grow",
		settings: patientStore, prepare: (*run).storeElsewhere, times: strikes(2), recover: true,
		strike: (*run).breakStore,
		hold:   func(r *run) { pause(r.ctx, refusedFor) },
		heal:   (*run).mendStore,
	},
	fault{
		name: "rights revoked", group: checkpointGroup, expect: refuses,
		what: "the right to write to the checkpoint table is revoked while the streamer runs; " +
			"the operator grants it as told, and starts the streamer again",
		says:     []string{`permission denied for table streamer_checkpoint`, `GRANT SELECT, INSERT, UPDATE ON`},
		settings: postgresStore, prepare: (*run).storeOfRole,
		strike:  func(r *run) { r.inStore("revoke insert, update on streamer_checkpoint from keeper") },
		refused: (*run).grantStore,
	},
	fault{
		name: "SIGKILL with store file", group: checkpointGroup,
		what: "the streamer is killed at random moments, its checkpoints are in a file", settings: fileStore,
		times: strikes(30), strike: (*run).killStreamer,
	},
	fault{
		name: "SIGKILL with store postgres", group: checkpointGroup,
		what: "the streamer is killed at random moments, its checkpoints are in a table", settings: postgresStore,
		times: strikes(30), strike: (*run).killStreamer,
	},
	fault{
		name: "folder read-only", group: checkpointGroup, stop: stopped,
		what:     "the folder of the checkpoint file may not be written to for a while",
		settings: fileStore, times: strikes(3), recover: true,
		prepare: func(r *run) {
			r.fileInFolder()
			r.withoutPrivileges()
		},
		strike: func(r *run) { require.NoError(r.t, os.Chmod(r.checkpoints(), 0o500)) },
		heal:   func(r *run) { require.NoError(r.t, os.Chmod(r.checkpoints(), 0o700)) },
	},
	fault{
		name: "disk full", group: checkpointGroup, stop: stopped,
		what:     "the file system of the checkpoint file is full for a while",
		settings: fileStore, prepare: (*run).fileOnDisk, times: strikes(3), recover: true,
		strike: func(r *run) { r.disk.fill(r) },
		heal:   func(r *run) { r.disk.free(r) },
	},
	fault{
		name: "folder gone", group: checkpointGroup, stop: stopped,
		what:     "the folder of the checkpoint file is moved away for a while",
		settings: fileStore, prepare: (*run).fileInFolder, times: strikes(3), recover: true,
		strike: func(r *run) { require.NoError(r.t, os.Rename(r.checkpoints(), r.checkpoints()+".away")) },
		heal: func(r *run) {
			_ = os.RemoveAll(r.checkpoints()) // in case it was created again
			require.NoError(r.t, os.Rename(r.checkpoints()+".away", r.checkpoints()))
		},
	},
	fault{
		name: "stale", group: checkpointGroup, expect: refuses,
		what:     "an older checkpoint is restored while the streamer is away",
		says:     []string{`slot "slot_\w+" begins at ` + position + `, after the checkpoint ` + position},
		settings: fileStore, prepare: (*run).fileInFolder,
		strike: (*run).restoreOldCheckpoint,
	},
	fault{
		name: "corrupt", group: checkpointGroup, expect: refuses, fast: true,
		what:     "bytes of the checkpoint are damaged while the streamer is away",
		says:     []string{`checkpoint is damaged`},
		settings: fileStore, prepare: (*run).fileInFolder,
		strike: whileDown(func(r *run) {
			content := r.readCheckpoint()
			content[r.random.IntN(len(content)-1)] ^= 0x15
			r.writeCheckpoint(content)
		}),
	},
	fault{
		name: "cut off", group: checkpointGroup, expect: refuses,
		what:     "the checkpoint file is cut off while the streamer is away",
		says:     []string{`checkpoint is damaged`},
		settings: fileStore, prepare: (*run).fileInFolder,
		strike: whileDown(func(r *run) {
			content := r.readCheckpoint()
			r.writeCheckpoint(content[:r.random.IntN(len(content)-1)])
		}),
	},
	fault{
		name: "of another cluster", group: checkpointGroup, expect: refuses,
		what:     "the streamer is pointed at another server, with the checkpoint of the first",
		says:     []string{`another cluster`},
		settings: fileStore, prepare: (*run).fileInFolder,
		strike: whileDown((*run).anotherCluster),
	},
	fault{
		name: "lost", group: checkpointGroup,
		what: "the checkpoint file is removed while the streamer is away; " +
			"the streamer goes on where the slot is and may repeat what is above",
		judge:    apartFromRepeats,
		settings: fileStore, prepare: (*run).fileInFolder,
		strike: whileDown(func(r *run) {
			r.written(1 << 14)
			require.NoError(r.t, os.Remove(filepath.Join(r.checkpoints(), "checkpoint")))
		}),
	},
)

// apartFromRepeats judges a run in which nothing tells the streamer what was
// published.
func apartFromRepeats(r *run, found findings) {
	found.Repeated = 0
	assert.Zero(r.t, found)
}

// checkpoints returns the folder of the checkpoint file.
func (r *run) checkpoints() string { return filepath.Join(r.folder, "checkpoints") }

// fileInFolder keeps the checkpoint in a folder of its own.
func (r *run) fileInFolder() {
	r.t.Helper()
	require.NoError(r.t, os.MkdirAll(r.checkpoints(), 0o700))
	r.set("checkpoint.file.path", filepath.Join(r.checkpoints(), "checkpoint"))
}

// fileOnDisk keeps the checkpoint on a small file system of its own.
func (r *run) fileOnDisk() {
	r.t.Helper()
	r.fileInFolder()
	r.disk = mountDisk(r, r.checkpoints(), "64k")
}

// storeElsewhere keeps the checkpoint in another server.
func (r *run) storeElsewhere() {
	r.t.Helper()
	r.store = pgtest.New(r.t, pgtest.Options{})
	r.set("checkpoint.postgres.dsn", withPassword(r.t, r.store.CreateDatabase(r.t)))
}

// patientStore is a store whose refusals can be counted. With growing pauses
// there are a few attempts while the store refuses. With constant pauses there
// are more than a hundred.
var patientStore = map[string]string{"checkpoint.store": "postgres", "retry.initial": "50ms", "retry.max": "4s"}

const (
	refusedFor = 8 * time.Second
	// fewAttempts is twice the number of attempts when every pause is the
	// shortest that chance allows.
	fewAttempts = 40
)

// storeBehindProxy keeps the checkpoint in another server, which can be cut off.
func (r *run) storeBehindProxy() {
	r.t.Helper()
	r.storeElsewhere()
	r.line = proxytest.New(r.t, serverAddress(r.store))
	through, err := r.line.Through(r.settings["checkpoint.postgres.dsn"])
	require.NoError(r.t, err)
	r.set("checkpoint.postgres.dsn", through)
}

func (r *run) refuseStore() {
	r.awaitConfirmation()
	r.attempts = int(r.line.Accepted())
	r.line.Refuse()
}

func (r *run) reachStore() {
	r.t.Helper()
	r.requireFewAttempts(int(r.line.Accepted()) - r.attempts)
	r.line.Clear()
	r.awaitConfirmation()
}

// storeOfRole keeps the checkpoint in another server, through a role that can
// lose its rights.
func (r *run) storeOfRole() {
	r.t.Helper()
	r.storeElsewhere()
	r.inStore("create role keeper login; grant all on schema public to keeper")
	u, err := url.Parse(r.settings["checkpoint.postgres.dsn"])
	require.NoError(r.t, err)
	u.User = url.UserPassword("keeper", secretPassword)
	r.set("checkpoint.postgres.dsn", u.String())
}

func (r *run) grantStore() {
	r.t.Helper()
	r.inStore("grant select, insert, update on streamer_checkpoint to keeper")
	r.streamer.start()
}

// breakStore makes the server of the checkpoints answer writes with an error.
func (r *run) breakStore() {
	r.t.Helper()
	r.awaitConfirmation()
	r.attempts = r.rejections()
	r.inStore(`create or replace function reject() returns trigger language plpgsql as 'begin raise exception ''rejected''; end';
		create trigger reject before insert on streamer_checkpoint for each row execute function reject()`)
}

func (r *run) mendStore() {
	r.t.Helper()
	r.requireFewAttempts(r.rejections() - r.attempts)
	r.inStore("drop trigger reject on streamer_checkpoint")
	r.awaitConfirmation()
}

// rejections returns how often the server of the checkpoints has answered with
// an error.
func (r *run) rejections() int { return strings.Count(r.store.Log(), "ERROR:  rejected") }

// inStore runs statements in the database of the checkpoints.
func (r *run) inStore(sql string) {
	r.t.Helper()
	u, err := url.Parse(r.settings["checkpoint.postgres.dsn"])
	require.NoError(r.t, err)
	conn, err := connect(r.ctx, r.store.DSN(strings.TrimPrefix(u.Path, "/")))
	require.NoError(r.t, err)
	defer conn.Close(r.ctx)
	_, err = conn.Exec(r.ctx, sql)
	require.NoError(r.t, err, sql)
}

// requireFewAttempts asserts that a refusing store was tried again, but not too
// often.
func (r *run) requireFewAttempts(n int) {
	r.t.Helper()
	r.t.Logf("the store was tried %d times within %s", n, refusedFor)
	assert.Greater(r.t, n, 1, "attempts while the store refused")
	assert.LessOrEqual(r.t, n, fewAttempts, "attempts while the store refused")
}

// withoutPrivileges makes file modes count for the streamer even if the test
// runs as root.
func (r *run) withoutPrivileges() {
	r.t.Helper()
	if os.Geteuid() != 0 {
		return
	}
	drop := []string{"setpriv", "--bounding-set", "-dac_override,-dac_read_search"}
	if output, err := exec.CommandContext(r.ctx, drop[0], append(drop[1:], "true")...).CombinedOutput(); err != nil {
		r.unplayable("needs setpriv to drop the privileges of root: %v: %s", err, output)
	}
	r.streamer.wrap(drop...)
}

func (r *run) readCheckpoint() []byte {
	r.t.Helper()
	content, err := os.ReadFile(filepath.Join(r.checkpoints(), "checkpoint"))
	require.NoError(r.t, err)
	return content
}

func (r *run) writeCheckpoint(content []byte) {
	r.t.Helper()
	require.NoError(r.t, os.WriteFile(filepath.Join(r.checkpoints(), "checkpoint"), content, 0o600))
}

// restoreOldCheckpoint puts back a checkpoint that the slot has moved past.
func (r *run) restoreOldCheckpoint() {
	r.t.Helper()
	old := r.readCheckpoint()
	before, err := r.confirmedPosition(r.ctx)
	require.NoError(r.t, err)
	r.until("the slot has moved on", func() bool {
		now, err := r.confirmedPosition(r.ctx)
		return err == nil && now > before && string(r.readCheckpoint()) != string(old)
	})
	// The slot is confirmed after the checkpoint is saved. Wait for that too.
	r.written(1 << 14)
	r.until("the slot has moved further", func() bool {
		now, err := r.confirmedPosition(r.ctx)
		return err == nil && now > before+1<<12
	})
	r.streamer.end(syscall.SIGKILL)
	r.result.Kills++
	r.writeCheckpoint(old)
	r.streamer.start()
}

// anotherCluster points the streamer to a server with the same names.
func (r *run) anotherCluster() {
	r.t.Helper()
	other := pgtest.New(r.t, pgtest.Options{})
	admin, err := pgx.Connect(r.ctx, other.DSN("postgres"))
	require.NoError(r.t, err)
	defer admin.Close(r.ctx)
	_, err = admin.Exec(r.ctx, "create database "+pgx.Identifier{r.database}.Sanitize())
	require.NoError(r.t, err)
	conn, err := pgx.Connect(r.ctx, other.DSN(r.database))
	require.NoError(r.t, err)
	defer conn.Close(r.ctx)
	for _, sql := range []string{
		schema, "create publication streamer for table outbox with (publish = 'insert', publish_via_partition_root = true)",
		"select pg_create_logical_replication_slot('" + strings.ReplaceAll(r.slot, "'", "") + "', 'pgoutput')",
	} {
		_, err = conn.Exec(r.ctx, sql)
		require.NoError(r.t, err)
	}
	r.connect(withPassword(r.t, other.DSN(r.database)))
}
