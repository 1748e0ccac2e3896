package eventstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/outboxstream/streamer/examples/patterns/service"
)

// Teller is the load: somebody who carries out commands on few accounts, so that
// tellers are in each other's way.
func Teller(ctx context.Context, s *service.Service, name string, n int, rate float64) error {
	done := fmt.Sprintf("select count(*) from events where metadata ->> 'correlation_id' like '%s/%%'", name)
	return service.Load(ctx, s, done, n, rate, func(ctx context.Context, number int) (bool, error) {
		return carryOut(ctx, s, command{
			id: fmt.Sprintf("%s/%d", name, number), stream: fmt.Sprintf("account-%d", number%3),
			deposit: number%5 < 2, by: Amount{Cents: int64(number%7+1) * 100},
		})
	})
}

// command asks for one change of an account.
type command struct {
	id      string
	stream  string
	deposit bool
	by      Amount
}

// carryOut reads, decides and appends, until nobody was faster. It reports whether
// the command is new.
func carryOut(ctx context.Context, s *service.Service, c command) (fresh bool, err error) {
	for attempt := 1; ; attempt++ {
		a, err := read(ctx, s.Pool, c.stream)
		if err != nil {
			return false, err
		}
		told := Deposited
		if !c.deposit {
			told = a.withdraw(c.by)
		}
		fresh, err := appendTo(ctx, s.Pool, c.stream, a, told, c.by, metadata{Command: c.id, Attempts: attempt})
		if !errors.Is(err, errConflict) {
			return fresh, err
		}
	}
}
