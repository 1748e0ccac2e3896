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
	if s.Encoding == "SQL_ASCII" { // see pinEncoding
		if _, err := c.conn.Exec(ctx, "set client_encoding = 'SQL_ASCII'"); err != nil {
			return 0, fmt.Errorf("peek into slot %q: %w", c.config.Slot, err)
		}
	}
	// Cancelling avoids receiving what the server would still send.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	rows, err := c.conn.Query(ctx, `select (lsn - '0/0'::pg_lsn)::bigint, data from pg_logical_slot_peek_binary_changes($1, null, $2,
		'proto_version', '1', 'publication_names', $3, 'binary', $4)`,
		c.config.Slot, messages, quoteIdentifier(c.config.Publication), strconv.FormatBool(c.config.Binary))
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
	case "42501":
		return failure.Refuse(failure.Advise(base, "ALTER ROLE … REPLICATION (on Amazon RDS: GRANT rds_replication TO …)"))
	}
	return base
}
