package scaffold

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"strings"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/replication"
)

// Command is streamer init.
type Command struct {
	DSN     string `placeholder:"URL" help:"The database: a connection URL, a key=value string, or a file: or exec: reference. Default: STREAMER_POSTGRES_DSN or the PG* variables."`
	Table   string `placeholder:"TABLE" help:"The outbox table. Default: the one that looks like one."`
	Preset  string `placeholder:"NAME" help:"The framework that writes the table, as in outbox.preset. Default: by the table's columns."`
	Brokers string `placeholder:"HOST:PORT" help:"Kafka brokers, separated by commas."`
	Source  string `placeholder:"URI" help:"Attribute source of the events, as in cloudevents.source."`
	Output  string `placeholder:"FILE" help:"File to write, which must not exist. Default: the one of --config, or streamer.yaml."`
	Print   bool   `help:"Print the file instead of writing it."`
}

// Help is shown by streamer init --help.
func (Command) Help() string {
	return `Looks at the tables of a database, finds outbox tables by their columns and by the
frameworks it knows, and writes a commented configuration file. It changes nothing in the
database and never overwrites a file. On a terminal it asks for what it cannot know;
elsewhere, say it with flags: any key can be given with --set and is written too. A
password is never written: give it as PGPASSWORD, or the whole DSN as file:/path.

Examples:
  streamer init --dsn postgres://streamer@db.example.com/shop --brokers kafka:9092
  streamer init --table public.outbox --set outbox.columns.time=created_at --print`
}

// Run is the command.
func (command Command) Run(ctx context.Context, given site.Given, std console.Streams) error {
	command.Output = cmp.Or(command.Output, given.File, config.DefaultFile)
	if !command.Print {
		if err := console.CheckNew(command.Output, another); err != nil {
			return err
		}
	}
	s := &scaffold{Command: command, given: given, std: std, asker: newAsker(std), remarks: map[string]string{}}
	draft, err := s.draft(ctx)
	if err != nil {
		return err
	}
	if command.Print {
		return draft.Write(std.Out)
	}
	if err := console.WriteNew(command.Output, another, draft.Write); err != nil {
		return err
	}
	s.farewell()
	return nil
}

// another says what to do about a file that exists.
const another = "name another file with --output, or print it with --print"

// scaffold gathers what goes into the file.
type scaffold struct {
	Command
	given   site.Given
	std     console.Streams
	asker   *asker            // nil where no answer can be given
	remarks map[string]string // by key, for the file
	secret  string            // what to do about a password that is not in the file
	table   replication.UserTable
}

// settings are the keys that are given on the command line.
func (s *scaffold) settings() (map[string]string, error) {
	flags, err := s.given.Flags()
	if err != nil {
		return nil, err
	}
	for key, value := range map[string]string{
		"postgres.dsn": s.DSN, "outbox.table": s.Table, "outbox.preset": s.Preset, "kafka.brokers": s.Brokers, "cloudevents.source": s.Source,
	} {
		if value != "" {
			flags[key] = value
		}
	}
	return flags, nil
}

// load makes a configuration of the settings, without a file.
func (s *scaffold) load(settings map[string]string) (*config.Loaded, error) {
	loaded, err := config.Load(config.Options{NoFile: true, Environ: s.given.Environ, Flags: settings})
	return loaded, failure.Misconfigure(err)
}

func (s *scaffold) draft(ctx context.Context) (config.Draft, error) {
	settings, err := s.settings()
	if err != nil {
		return config.Draft{}, err
	}
	chosen, err := s.choose(ctx, settings)
	if err != nil {
		return config.Draft{}, err
	}
	maps.Copy(settings, chosen)
	if err := s.brokers(settings); err != nil {
		return config.Draft{}, err
	}
	if settings["kafka.topics.create"] == "" {
		settings["kafka.topics.create"] = "true"
		s.remarks["kafka.topics.create"] = "A topic that is missing is refused otherwise."
	}
	loaded, err := s.load(settings)
	if err != nil {
		return config.Draft{}, err
	}
	if err := s.complain(loaded.Config.Outbox); err != nil {
		return config.Draft{}, err
	}
	s.password(loaded.Config.Postgres.DSN, loaded.Origins["postgres.dsn"])
	keys := []string{"outbox.table", "kafka.brokers", "kafka.topic"}
	for key, origin := range loaded.Origins {
		if strings.HasPrefix(origin, "--set ") {
			keys = append(keys, key)
		}
	}
	return config.Draft{Config: loaded.Config, Heading: heading, Keys: keys, Hints: hints(loaded.Config), Remarks: s.remarks}, nil
}

const heading = "Written by streamer init. `streamer config` checks this file and shows what applies, and where from; " +
	"docs/reference/configuration.md has all keys.\n" +
	"An environment variable can set any key too: STREAMER_KAFKA_BROKERS sets kafka.brokers.\n" +
	"Next: `streamer setup`, `streamer doctor`, `streamer run`."

// complain names the columns that are mapped and that the table lacks.
func (s *scaffold) complain(o config.Outbox) error {
	lacking := missing(s.table, site.Mapping(o).ColumnNames())
	if len(lacking) == 0 {
		return nil
	}
	return failure.Misconfigure(failure.Advise(
		fmt.Errorf("table %s has no column %s: it has %s", s.table.Name, strings.Join(lacking, ", "), names(s.table)),
		"map another column with --set, as in --set outbox.columns.payload=COLUMN; set an optional one to nothing; "+
			"or name another --preset or --table",
	))
}

// hints are keys that are worth knowing.
func hints(c config.Config) []string {
	keys := []string{
		"postgres.dsn", "postgres.slot", "cloudevents.source", "cloudevents.mode", "outbox.null_payload", "snapshot.mode", "poison.policy",
		"kafka.tls.enabled", "kafka.sasl.mechanism", "checkpoint.store", "http.listen",
	}
	if c.Outbox.Preset == "" {
		return keys
	}
	return append(keys, "outbox.columns", "outbox.defaults", "outbox.extensions")
}

// brokers asks for the brokers if nothing names them.
func (s *scaffold) brokers(settings map[string]string) error {
	loaded, err := s.load(settings)
	if err != nil || loaded.Origins["kafka.brokers"] != "default" {
		return err
	}
	fallback := strings.Join(loaded.Config.Kafka.Brokers, ",")
	if s.asker == nil {
		fmt.Fprintf(s.std.Err, "streamer: no brokers named, so the file names %s: use --brokers\n", fallback)
		settings["kafka.brokers"] = fallback
		return nil
	}
	settings["kafka.brokers"], err = s.asker.text("Kafka brokers, each as host:port", fallback)
	return err
}

// password says where the password has to come from, if the file must not hold
// it.
func (s *scaffold) password(dsn config.DSN, origin string) {
	const key = "postgres.dsn"
	_, isKnown := dsn.WithoutPasswords()
	switch {
	case dsn.IsZero():
		s.remarks[key] = "Not set here: the PG* variables name the database."
	case !strings.HasPrefix(origin, "--set "):
		s.remarks[key] = "Not set here: it comes from " + strings.TrimPrefix(origin, "environment ") + "."
	case !isKnown:
		s.remarks[key] = "Not written, because it may hold a password: write it to a file and name that here as file:/path."
		s.secret = "write the connection string to a file and set postgres.dsn: file:/path"
	case dsn.HasPassword():
		s.remarks[key] = "The password is not in this file: set PGPASSWORD, or write the whole DSN to a file and name that here as file:/path."
		s.secret = "set PGPASSWORD: the password is not in the file"
	}
}

// farewell says what comes next.
func (s *scaffold) farewell() {
	fmt.Fprintf(s.std.Out, "wrote %s\n", s.Output)
	if s.secret != "" {
		fmt.Fprintln(s.std.Out, "before you go on:", s.secret)
	}
	fmt.Fprintf(s.std.Out, "next: streamer setup%[1]s, streamer doctor%[1]s, streamer run%[1]s\n", console.ConfigFlag(s.Output))
}
