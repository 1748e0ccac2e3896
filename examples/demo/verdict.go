package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/outboxstream/streamer/internal/audit"
)

// audit reads the topics again, from the beginning, and compares them with what
// the shop knows.
func (d *demo) audit(ctx context.Context) error {
	messages, err := audit.Read(ctx, d.kafka.addresses, d.topics.events()...)
	if err != nil {
		return fmt.Errorf("read the topics: %w", err)
	}
	waiting, err := d.waitingInSlot(ctx)
	if err != nil {
		return err
	}
	report := audit.Compare(d.ledger, messages) //nolint:contextcheck // decoding records waits for nothing
	d.showReport(&report, waiting)
	problem := report.Err()
	if report.Repeated > 0 {
		problem = errors.Join(problem, fmt.Errorf("%d events were published twice", report.Repeated))
	}
	if waiting > 0 {
		problem = errors.Join(problem, fmt.Errorf("%d events are still waiting in the slot after a graceful stop", waiting))
	}
	return d.withLog(problem)
}

// waitingInSlot counts the rows that a next start would read again.
func (d *demo) waitingInSlot(ctx context.Context) (rows int, err error) {
	conn, err := pgx.Connect(ctx, d.dsn)
	if err != nil {
		return 0, fmt.Errorf("look into the slot: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	// Messages that begin with I are inserted rows.
	err = conn.QueryRow(ctx, `
		SELECT count(*) FROM pg_logical_slot_peek_binary_changes('streamer', NULL, NULL,
			'proto_version', '1', 'publication_names', 'streamer')
		WHERE get_byte(data, 0) = ascii('I')`).Scan(&rows)
	if err != nil {
		return 0, fmt.Errorf("look into the slot: %w", err)
	}
	return rows, nil
}

func (d *demo) showReport(report *audit.Report, waiting int) {
	row := func(look, mark, name string, n int, remark string) {
		d.screen.line(fmt.Sprintf("   %s %-26s %9s  ", d.screen.paint(look, mark), name, grouped(n)) + d.screen.paint(dim, remark))
	}
	mustBeZero := func(name string, n int, remark string) {
		if n == 0 {
			row(green, "✓", name, n, remark)
		} else {
			row(red, "✗", name, n, remark)
		}
	}
	row(plain, " ", "committed", report.Committed, fmt.Sprintf("events, in %s transactions", grouped(len(d.ledger.Committed))))
	row(plain, " ", "published", report.Published, fmt.Sprintf("found in %s records", grouped(report.Records)))
	mustBeZero("lost", report.Count[audit.Lost], "committed, and not published")
	mustBeZero(
		"out of order",
		report.Count[audit.OutOfOrder]+report.Count[audit.Scattered]+report.Count[audit.Torn],
		"per customer and order, by version; one partition each",
	)
	mustBeZero(
		"rolled back but published",
		report.Count[audit.Phantom],
		fmt.Sprintf("of %s events in %s transactions", grouped(report.RolledBack), grouped(len(d.ledger.RolledBack))),
	)
	mustBeZero(
		"altered or unknown",
		report.Count[audit.Altered]+report.Count[audit.Unknown]+report.Count[audit.Invalid],
		"type, subject, key and payload are what the shop wrote",
	)
	mustBeZero("left in the slot", waiting, "a graceful stop repeats nothing")
	mustBeZero("repeated", report.Repeated, "kill -9 included: what was there was read back and passed over")
}
