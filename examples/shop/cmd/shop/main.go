// Command shop commits orders and their outbox rows to a PostgreSQL database,
// to give the streamer something to do.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outboxstream/streamer/examples/shop"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errUsage):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "shop:", err)
		os.Exit(1)
	}
}

// errUsage is a mistake on the command line, which the flag set has already
// explained.
var errUsage = errors.New("wrong usage")

const healthLimit = 5 * time.Second

func run(ctx context.Context, args []string, out io.Writer) error {
	var cfg shop.Config
	flags := flag.NewFlagSet("shop", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.StringVar(&cfg.DSN, "dsn", "", "PostgreSQL `URL` or key=value string (default: the PG* variables)")
	flags.IntVar(&cfg.Connections, "connections", 4, "transactions at a time")
	flags.IntVar(&cfg.Customers, "customers", 10, "customers who share the orders")
	flags.IntVar(&cfg.Orders, "orders", 0, "orders to bring to their end (0: until stopped)")
	flags.Float64Var(&cfg.Rate, "rate", 0, "transactions per second (0: as fast as possible)")
	flags.Float64Var(&cfg.RollbackShare, "rollback-share", 0.1, "share of transactions rolled back on purpose")
	flags.Uint64Var(&cfg.Seed, "seed", uint64(time.Now().UnixNano()), "seed of the random choices")
	createSchema := flags.Bool("create-schema", false, "create the tables that are missing, then open the shop")
	checkHealth := flags.Bool("check-health", false, "only tell whether a shop has been at work in the last 30 seconds")
	if err := flags.Parse(args); err != nil {
		return errors.Join(errUsage, err)
	}
	if *checkHealth {
		ctx, cancel := context.WithTimeout(ctx, healthLimit)
		defer cancel()
		return shop.CheckHealth(ctx, cfg.DSN)
	}
	if *createSchema {
		if err := create(ctx, cfg.DSN); err != nil {
			return err
		}
	}
	return serve(ctx, cfg, slog.New(slog.NewTextHandler(out, nil)))
}

func create(ctx context.Context, dsn string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	_, err = conn.Exec(ctx, shop.Schema)
	if err = errors.Join(err, conn.Close(ctx)); err != nil {
		return fmt.Errorf("create the tables of the shop: %w", err)
	}
	return nil
}

// serve keeps the shop open and logs its progress every few seconds.
func serve(ctx context.Context, cfg shop.Config, log *slog.Logger) error {
	const every = 10 * time.Second
	var last shop.Progress
	next := time.Now().Add(every)
	cfg.CountOnly = true // the ledger is not read here
	cfg.Progress = func(p shop.Progress) {
		last = p
		if time.Now().After(next) {
			next = time.Now().Add(every)
			log.Info("shop at work", attributes(p)...)
		}
	}
	log.Info("shop opened", "connections", cfg.Connections, "rate", cfg.Rate, "orders", cfg.Orders, "seed", cfg.Seed)
	_, err := shop.Run(ctx, cfg)
	log.Info("shop closed", attributes(last)...)
	return err
}

func attributes(p shop.Progress) []any {
	return []any{"placed", p.Placed, "committed", p.Committed, "rolled_back", p.RolledBack, "events", p.Events}
}
