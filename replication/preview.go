package replication

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/outboxstream/streamer/internal/failure"
)

// ErrEnough is what a visitor of Peek returns to stop.
var ErrEnough = errors.New("enough has been seen")

// Peek hands the pgoutput messages that wait in the slot to visit, without
// consuming them. It hands out whole transactions, until at least the given
// number of messages is reached. It returns how many messages the server had up
// to there. If there are fewer than asked for, the slot has no more. The data
// is valid during the call of visit only. The server prepares a transaction as
// a whole. After ErrEnough the connection cannot be used again.
func (c *Control) Peek(ctx context.Context, s Server, messages int, visit func(at LSN, data []byte) error) (int, error) {
	publication, err := inEncoding(c.config.Publication, s.Encoding)
	if err != nil {
		return 0, err
	}
	// Cancelling avoids receiving what the server would still send.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	tx, err := c.beginReading(ctx, s.Encoding)
	if err != nil {
		return 0, fmt.Errorf("peek into slot %q: %w", c.config.Slot, err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // it has changed nothing
	rows, err := tx.Query(ctx, `select (lsn - '0/0'::pg_lsn)::bigint, data from pg_logical_slot_peek_binary_changes($1, null, $2,
		'proto_version', '1', 'publication_names', $3, 'binary', $4, 'messages', $5)`,
		c.config.Slot, messages, quoteIdentifier(publication), strconv.FormatBool(c.config.Binary), strconv.FormatBool(c.config.readsMessages()))
	if err != nil {
		return 0, c.explainPeek(err)
	}
	defer rows.Close()
	seen := 0
	for rows.Next() {
		var at int64
		var data []byte
		if err := rows.Scan(&at, &data); err != nil {
			return seen, fmt.Errorf("peek into slot %q: %w", c.config.Slot, err)
		}
		seen++
		if err := visit(LSN(at), data); err != nil {
			cancel()
			return seen, err
		}
	}
	return seen, c.explainPeek(rows.Err())
}

// temporaryFiles is the remedy where temp_file_limit ends a query that the
// server answers from a temporary file.
const temporaryFiles = "ALTER ROLE … SET temp_file_limit = -1 for this user, as a superuser, or ask for less"

func (c *Control) explainPeek(err error) error {
	if err == nil {
		return nil
	}
	base := fmt.Errorf("peek into slot %q: %w", c.config.Slot, err)
	switch sqlState(err) {
	case "55006":
		return failure.Advise(
			fmt.Errorf("%w: %w", ErrSlotActive, base),
			"what that client will publish can only be seen here while it is stopped; `streamer tail` shows what was published",
		)
	case "42704", "55000":
		return failure.Refuse(failure.Advise(base, "see `streamer doctor`"))
	case "53400":
		return failure.Advise(base, temporaryFiles)
	case "42501":
		return failure.Refuse(failure.Advise(base, "ALTER ROLE … REPLICATION (on Amazon RDS: GRANT rds_replication TO …)"))
	}
	return base
}
