// Picture draws the pictures in docs/img: the dashboard from what a Prometheus
// has scraped, and the output of a command. Both are SVG.
//
//	go run ./picture dashboard -prometheus http://127.0.0.1:9090 -for 10m > ../../docs/img/dashboard.svg
//	streamer status | go run ./picture terminal 'streamer status' > ../../docs/img/status.svg
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "picture:", err)
		os.Exit(1)
	}
}

var errUsage = errors.New("say `dashboard` or `terminal COMMAND`")

func run(ctx context.Context, arguments []string, in io.Reader, out io.Writer) error {
	if len(arguments) == 0 {
		return errUsage
	}
	switch arguments[0] {
	case "dashboard":
		flags := flag.NewFlagSet("dashboard", flag.ContinueOnError)
		prometheus := flags.String("prometheus", "http://127.0.0.1:9090", "where Prometheus listens")
		path := flags.String("dashboard", "../compose/grafana/dashboards/streamer.json", "what to draw")
		span := flags.Duration("for", 15*time.Minute, "how far back to look")
		end := flags.String("to", time.Now().Format(time.RFC3339), "until when")
		if err := flags.Parse(arguments[1:]); err != nil {
			return err
		}
		to, err := time.Parse(time.RFC3339, *end)
		if err != nil {
			return err
		}
		board, err := readDashboard(*path)
		if err != nil {
			return err
		}
		return board.draw(ctx, out, &source{url: *prometheus, from: to.Add(-*span), to: to})
	case "terminal":
		if len(arguments) != 2 {
			return errUsage
		}
		return drawTerminal(out, arguments[1], in)
	}
	return errUsage
}
