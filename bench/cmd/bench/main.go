// Bench compares the streamer with other ways to do its work, on its own
// PostgreSQL and Kafka. See bench/README.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/outboxstream/streamer/bench/internal/report"
	"github.com/outboxstream/streamer/bench/internal/rig"
	"github.com/outboxstream/streamer/bench/internal/workload"
)

func main() {
	// The first signal cleans up, a second one ends the process at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, stop)
	err := run(ctx, os.Args[1:], os.Stderr)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	began := time.Now()
	options, folder, result, err := parse(args, out)
	if err != nil {
		return err
	}
	options.Progress = func(line string) {
		fmt.Fprintf(out, "%7s  %s\n", time.Since(began).Round(time.Second), line)
	}
	r, err := rig.Open(ctx, options)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }() //nolint:contextcheck // cleaning up outlives the context
	return r.Run(ctx, result, func() error { return result.Write(folder) })
}

func parse(args []string, out io.Writer) (o rig.Options, folder string, result *report.Report, err error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(out)
	workloads := flags.String("workloads", "", "names, separated by commas; empty: all")
	contenders := flags.String("contenders", "",
		"names or beginnings (raw, streamer, baseline, debezium) or exact names (=streamer), separated by commas; empty: all")
	sweep := flags.Bool("sweep", false, "vary row size, transaction size and partitions instead, with the streamer only")
	flags.Float64Var(&o.Scale, "scale", 1, "scale of the workloads: 0.1 is a tenth of the rows and of the time")
	flags.IntVar(&o.Rounds, "rounds", 3, "number of times that everything is measured")
	flags.StringVar(&o.PostgreSQL, "postgres", "", "`version` of PostgreSQL to download; empty: the installed one")
	rates := flags.String("rates", "", "events a second of the steady workload, instead of 100,1000,10000")
	flags.StringVar(&o.Before, "before", "", "an earlier `commit` whose streamer is compared as well")
	flags.IntVar(&o.BrokerCores, "broker-cores", 0, "number of `cores` for Kafka alone; everything else shares the others")
	flags.DurationVar(&o.Limit, "limit", 20*time.Minute, "time limit for each measurement")
	flags.StringVar(&o.Profiles, "profiles", "", "`folder` for CPU profiles of the streamer at each steady rate; empty: none")
	flags.StringVar(&folder, "report", filepath.Join("bench", "report"), "`folder` to write to")
	if err := flags.Parse(args); err != nil {
		return o, "", nil, err
	}
	if o.Scale <= 0 || o.Rounds < 1 || o.Limit <= 0 || o.BrokerCores < 0 || flags.NArg() > 0 {
		return o, "", nil, errors.New("-scale, -rounds and -limit must be above 0, -broker-cores not below, and there are no other arguments")
	}
	all := workload.All()
	o.Contenders = split(*contenders)
	if *sweep {
		all = workload.Sweep()
		if len(o.Contenders) == 0 {
			o.Contenders = []string{"streamer"}
		}
	}
	if o.Workloads, err = choose(all, split(*workloads)); err != nil {
		return o, "", nil, err
	}
	if err := setRates(o.Workloads, split(*rates)); err != nil {
		return o, "", nil, err
	}
	result = &report.Report{
		Date: time.Now().UTC(), Command: "make bench BENCH_FLAGS='" + strings.Join(args, " ") + "'",
		Scale: o.Scale, Rounds: o.Rounds, Sweep: *sweep, BrokerCores: o.BrokerCores,
	}
	return o, folder, result, nil
}

func split(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })
}

// setRates replaces the rates of the steady workloads; none leaves them.
func setRates(workloads []workload.Workload, texts []string) error {
	var rates []int
	for _, text := range texts {
		rate, err := strconv.Atoi(text)
		if err != nil || rate < 1 {
			return fmt.Errorf("-rates: %q is not a number of events a second", text)
		}
		rates = append(rates, rate)
	}
	for i := range workloads {
		if workloads[i].Steady() && len(rates) > 0 {
			workloads[i].Rates = rates
		}
	}
	return nil
}

func choose(all []workload.Workload, names []string) ([]workload.Workload, error) {
	if len(names) == 0 {
		return all, nil
	}
	var chosen []workload.Workload
	for _, name := range names {
		before := len(chosen)
		for _, w := range all {
			if strings.EqualFold(w.Name, name) {
				chosen = append(chosen, w)
			}
		}
		if len(chosen) == before {
			return nil, fmt.Errorf("unknown workload %q", name)
		}
	}
	return chosen, nil
}
