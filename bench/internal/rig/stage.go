package rig

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outboxstream/streamer/bench/internal/workload"
)

// mother is the slot from before the load; every contender gets a copy of it.
const mother = "mother"

const publication = "streamer"

// stage is the database of a workload.
type stage struct {
	workload workload.Workload
	database string
	conn     *pgx.Conn
	end      string // end of the WAL after the load; empty for a steady workload
}

// set creates the database, and writes the workload if it is a catch-up.
func (r *Rig) set(ctx context.Context, w workload.Workload) (s *stage, err error) {
	s = &stage{workload: w, database: "bench_" + strings.ToLower(strings.ReplaceAll(w.Name, "-", "_"))}
	if err := r.execute(ctx, "CREATE DATABASE "+s.database); err != nil {
		return nil, err
	}
	if s.conn, err = pgx.Connect(ctx, r.postgres.DSN(s.database)); err != nil {
		return nil, fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	if err := s.write(ctx, r.say); err != nil {
		return nil, errors.Join(err, r.clear(s)) //nolint:contextcheck // cleaning up outlives the context
	}
	return s, nil
}

func (s *stage) write(ctx context.Context, say func(string, ...any)) error {
	if err := s.workload.Prepare(ctx, s.conn); err != nil {
		return err
	}
	if s.workload.Steady() {
		return nil
	}
	if err := s.execute(ctx, "SELECT pg_create_logical_replication_slot($1, 'pgoutput')", mother); err != nil {
		return err
	}
	began := time.Now()
	end, err := s.workload.Load(ctx, s.conn)
	if err != nil {
		return err
	}
	s.end = end
	say("%s: %d rows written in %v", s.workload.Name, s.workload.Rows, time.Since(began).Round(time.Millisecond))
	// Work that the load leaves for later must not happen during a measurement.
	return s.execute(ctx, "CHECKPOINT")
}

// clear removes the database with its slots, and the WAL that they have
// retained.
func (r *Rig) clear(s *stage) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var problems []error
	if !s.workload.Steady() {
		problems = append(problems, s.dropSlot(ctx, mother))
	}
	problems = append(problems, s.conn.Close(ctx), r.execute(ctx, "DROP DATABASE "+s.database+" WITH (FORCE)"), r.execute(ctx, "CHECKPOINT"))
	return errors.Join(problems...)
}

// execute runs a statement outside the databases of workloads.
func (r *Rig) execute(ctx context.Context, sql string) error {
	conn, err := pgx.Connect(ctx, r.postgres.DSN("postgres"))
	if err != nil {
		return fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	_, err = conn.Exec(ctx, sql)
	if err := errors.Join(err, conn.Close(ctx)); err != nil {
		return fmt.Errorf("%s: %w", sql, err)
	}
	return nil
}

func (s *stage) execute(ctx context.Context, sql string, arguments ...any) error {
	if _, err := s.conn.Exec(ctx, sql, arguments...); err != nil {
		return fmt.Errorf("%s: %w", sql, err)
	}
	return nil
}

// makeSlot creates a contender's slot, which begins before the load, or now.
func (s *stage) makeSlot(ctx context.Context, name string) error {
	if s.workload.Steady() {
		return s.execute(ctx, "SELECT pg_create_logical_replication_slot($1, 'pgoutput')", name)
	}
	return s.execute(ctx, "SELECT pg_copy_logical_replication_slot($1, $2, false)", mother, name)
}

// dropSlot drops a slot, if there is one, as soon as it is no longer in use.
func (s *stage) dropSlot(ctx context.Context, name string) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err := s.conn.Exec(ctx, "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = $1 AND active", name)
		if err == nil {
			_, err = s.conn.Exec(ctx, "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1", name)
		}
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("drop slot %q: %w", name, err)
		}
	}
}
