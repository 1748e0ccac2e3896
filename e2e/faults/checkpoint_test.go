package faults

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/pgtest"
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
			_ = os.RemoveAll(r.checkpoints()) // were it made anew
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
		what:     "the streamer is pointed to another server, with the checkpoint of the first",
		says:     []string{`another cluster`},
		settings: fileStore, prepare: (*run).fileInFolder,
		strike: whileDown((*run).anotherCluster),
	},
	fault{
		name: "lost", group: checkpointGroup,
		what:     "the checkpoint file is removed while the streamer is away; it goes on where the slot is and may repeat what is above",
		judge:    apartFromRepeats,
		settings: fileStore, prepare: (*run).fileInFolder,
		strike: whileDown(func(r *run) {
			r.written(1 << 14)
			require.NoError(r.t, os.Remove(filepath.Join(r.checkpoints(), "checkpoint")))
		}),
	},
)

// apartFromRepeats judges a run in which nothing tells what was published.
func apartFromRepeats(r *run, found findings) {
	found.Repeated = 0
	assert.Zero(r.t, found)
}

// checkpoints is the folder of the checkpoint file.
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

// withoutPrivileges makes the modes of files count for the streamer even if we
// are root.
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

// restoreOldCheckpoint puts a checkpoint back that the slot has left behind.
func (r *run) restoreOldCheckpoint() {
	r.t.Helper()
	old := r.readCheckpoint()
	before, err := r.confirmedPosition(r.ctx)
	require.NoError(r.t, err)
	r.until("the slot has moved on", func() bool {
		now, err := r.confirmedPosition(r.ctx)
		return err == nil && now > before && string(r.readCheckpoint()) != string(old)
	})
	// The slot is confirmed after the checkpoint is saved; wait for that too.
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
