// Command inbox prints the SQL of the inbox, and shows and releases parked keys.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"text/tabwriter"
	"time"

	"github.com/alecthomas/kong"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/outboxstream/streamer/consume"
)

type cli struct {
	Schema     schema  `cmd:"" help:"Print the SQL that creates the inbox. It can be run again."`
	Parked     parked  `cmd:"" help:"List the keys of a consumer whose events wait."`
	Release    request `cmd:"" help:"Let the running consumer handle the events of a parked key again, in order."`
	DeadLetter request `cmd:"" help:"Let the running consumer give the first event of a parked key to its dead letters, and handle the others."`
}

func main() {
	var c cli
	parsed := kong.Parse(&c, kong.Name("inbox"), kong.Description("Looks after the inbox of github.com/outboxstream/streamer/consume."))
	if err := parsed.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "inbox:", err)
		os.Exit(1)
	}
}

type schema struct{}

// Run prints the SQL.
func (schema) Run() error {
	_, err := fmt.Print(consume.Schema)
	return err
}

// target is where the inbox is.
type target struct {
	DSN      string `required:"" env:"INBOX_DSN" placeholder:"URL" help:"The database of the consumer."`
	Consumer string `required:"" env:"INBOX_CONSUMER" placeholder:"NAME" help:"Its name."`
}

func (t target) open(ctx context.Context) (consume.Database, func(), error) {
	pool, err := pgxpool.New(ctx, t.DSN)
	if err != nil {
		return nil, nil, fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	handler := func(context.Context, pgx.Tx, event.Event) error { return errors.New("this command handles no events") }
	return consume.PGX(pool, handler), pool.Close, nil
}

type parked struct {
	target
}

// Run lists the keys.
func (p parked) Run() error {
	ctx := context.Background()
	database, closeAll, err := p.open(ctx)
	if err != nil {
		return err
	}
	defer closeAll()
	keys, err := consume.ListParked(ctx, database, p.Consumer)
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(table, "SINCE\tTOPIC\tKEY\tEVENTS\tATTEMPTS\tREQUEST\tREASON")
	for _, k := range keys {
		fmt.Fprintf(table, "%s\t%s\t%q\t%d\t%d\t%s\t%.120q\n",
			k.Since.Format(time.RFC3339), k.Topic, k.Key, k.Events, k.Attempts, k.Request, k.Reason)
	}
	return table.Flush()
}

type request struct {
	target
	Topic string `required:"" help:"The topic."`
	Key   string `xor:"which" required:"" help:"The key."`
	All   bool   `xor:"which" required:"" help:"All parked keys of the topic."`
}

// Run asks for something.
func (r request) Run(parsed *kong.Context) error {
	ctx := context.Background()
	database, closeAll, err := r.open(ctx)
	if err != nil {
		return err
	}
	defer closeAll()
	what := consume.Release
	if parsed.Command() == "dead-letter" {
		what = consume.DeadLetter
	}
	var key []byte
	if !r.All {
		key = []byte(r.Key)
	}
	by := "unknown"
	if whoever, err := user.Current(); err == nil {
		by = whoever.Username
	}
	keys, err := consume.Ask(ctx, database, r.Consumer, r.Topic, key, what, by)
	if err != nil {
		return err
	}
	if keys == 0 {
		return errors.New("no such key is parked: see `inbox parked`")
	}
	fmt.Printf("%d asked for: a running consumer does it within seconds\n", keys)
	return nil
}
