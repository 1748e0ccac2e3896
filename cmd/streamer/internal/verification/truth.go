package verification

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/verify"
	"github.com/outboxstream/streamer/replication"
)

// truthRow is the approximate size of a row in a truth file, in bytes.
const truthRow = 300

// readTruth reads the recording. The header comes first because it names the
// streams of the events.
func (v *verification) readTruth(ctx context.Context) error {
	file, err := os.Open(v.command.Truth)
	if err != nil {
		return failure.Misconfigure(fmt.Errorf("--truth: %w", err))
	}
	defer file.Close()
	opened, err := v.readHeaders(file)
	if err != nil {
		return err
	}
	if len(v.streams) == 0 {
		v.note("the recording does not name its stream; that of slot %q is assumed", v.cfg.Postgres.Slot)
		if err := v.identify(ctx); err != nil {
			return err
		}
	}
	info, err := file.Stat()
	if err != nil {
		return fmt.Errorf("--truth: %w", err)
	}
	if err := v.open(ctx, info.Size()/truthRow, opened); err != nil {
		return err
	}
	if _, err := file.Seek(0, 0); err != nil {
		return fmt.Errorf("--truth: %w", err)
	}
	v.progress.step("reading " + v.command.Truth)
	err = verify.ReadTruth(file, func(verify.TruthHeader) error { return ctx.Err() }, func(r *verify.Row) error {
		v.progress.one()
		return v.addRow(r)
	})
	if err != nil {
		return fmt.Errorf("--truth %s: %w", v.command.Truth, err)
	}
	return nil
}

// readHeaders reads all headers of joined recordings.
func (v *verification) readHeaders(file *os.File) (opened replication.LSN, err error) {
	err = verify.ReadTruth(file, func(h verify.TruthHeader) error {
		v.streams = append(v.streams, h.Streams...)
		lsn, err := h.OpenedLSN()
		opened = max(opened, lsn)
		return err
	}, func(*verify.Row) error { return nil })
	if err != nil {
		return 0, failure.Misconfigure(fmt.Errorf("--truth %s: %w", v.command.Truth, err))
	}
	return opened, nil
}

// record writes the rows of the table to a new file. It leaves no incomplete
// file behind: rows that are not in it would make phantoms of their records.
func (v *verification) record(ctx context.Context) (err error) {
	if err := v.identify(ctx); err != nil {
		return err
	}
	file, err := os.OpenFile(v.command.Record, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return failure.Misconfigure(failure.Advise(
			fmt.Errorf("--record: %w", err),
			"write this recording to a new file; recordings may be joined afterwards",
		))
	}
	if err != nil {
		return failure.Misconfigure(fmt.Errorf("--record: %w", err))
	}
	defer func() {
		if err = errors.Join(err, file.Close()); err != nil {
			_ = os.Remove(v.command.Record) // it is ours, and incomplete
		}
	}()
	buffered := bufio.NewWriterSize(file, 1<<20)
	var w *verify.TruthWriter
	v.progress.step("recording table " + v.tableNames())
	err = v.rows(ctx, func(_ context.Context, _ int64, opened replication.LSN) (err error) {
		w, err = verify.NewTruthWriter(buffered, verify.TruthHeader{
			Streams: v.streams, Opened: opened.String(), Table: v.tableNames(), At: time.Now().UTC(),
		})
		return err
	}, func(r *verify.Row) error { return w.Write(r) })
	if err == nil {
		err = buffered.Flush()
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(v.std.Out, "recorded %s rows of %s in %s\n", console.Grouped(w.Rows()), v.tableNames(), v.command.Record)
	return nil
}
