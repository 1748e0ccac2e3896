package importer

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/debezium"
	"github.com/outboxstream/streamer/internal/failure"
)

// Command is streamer import.
type Command struct {
	Debezium Debezium `cmd:"" help:"Translate the configuration of a Debezium connector with the outbox event router."`
}

// Help is shown by streamer import --help.
func (Command) Help() string {
	return `Writes a configuration that does what another program's configuration does, and reports
what is different.

Example:
  streamer import debezium connector.json > streamer.yaml`
}

// Debezium is streamer import debezium.
type Debezium struct {
	Files     []string `arg:"" name:"file" help:"Files of one connector; - is standard input."`
	Connector string   `placeholder:"NAME" help:"Which connector, where the files hold several with an outbox event router."`
	Output    string   `short:"o" placeholder:"FILE" help:"File to write, which must not exist. Default: standard output."`
	JSON      bool     `help:"Write the report as JSON."`
}

// Help is shown by streamer import debezium --help.
func (Debezium) Help() string {
	return `Reads the configuration of a Debezium connector for PostgreSQL with the Outbox Event Router:
JSON as Kafka Connect's REST interface takes and returns it (also GET
/connectors?expand=info), properties of a connector and of a worker, Strimzi's manifests,
or the application.properties of Debezium Server. It connects to nothing.

The configuration goes to standard output and the report to standard error. The report has
three lists, and each option is in one of them: the same; different, and for whom that
matters; no equivalent, and what to do. A password is never written: the report says where
to put it.

Examples:
  streamer import debezium connector.json > streamer.yaml
  streamer import debezium connector.json worker.properties -o streamer.yaml
  curl -s 'connect:8083/connectors?expand=info' | streamer import debezium - --connector outbox`
}

// another says what to do about a file that exists.
const another = "name another file with --output"

// Run is the command.
func (command Debezium) Run(given site.Given, std console.Streams) error {
	if len(given.Set) > 0 {
		return failure.Misconfigure(failure.Advise(errors.New("--set has no effect on what is imported"), "change the file that is written"))
	}
	if command.Output != "" {
		if err := console.CheckNew(command.Output, another); err != nil {
			return err
		}
	}
	files, err := command.read(std)
	if err != nil {
		return failure.Misconfigure(err)
	}
	connectors, err := debezium.Read(files)
	if err != nil {
		return err
	}
	connector, err := debezium.Choose(connectors, command.Connector)
	if err != nil {
		return err
	}
	result, err := connector.Translate()
	if err != nil {
		return err
	}
	return errors.Join(command.write(result.Draft, std), command.report(result.Report, std.Err))
}

// read returns the content of the files.
func (command Debezium) read(std console.Streams) ([]debezium.File, error) {
	var files []debezium.File
	for _, name := range command.Files {
		file := debezium.File{Name: name}
		var err error
		switch {
		case name != "-":
			file.Content, err = os.ReadFile(name)
		case std.In == nil:
			err = errors.New("there is no standard input")
		default:
			file.Name = "standard input"
			file.Content, err = io.ReadAll(std.In)
		}
		if err != nil {
			return nil, failure.Advise(fmt.Errorf("read the connector's configuration: %w", err), "name a file that can be read")
		}
		files = append(files, file)
	}
	return files, nil
}

func (command Debezium) write(draft config.Draft, std console.Streams) error {
	if command.Output == "" {
		return draft.Write(std.Out)
	}
	if err := console.WriteNew(command.Output, another, draft.Write); err != nil {
		return err
	}
	fmt.Fprintf(std.Out, "wrote %s\nnext: read the report, then streamer config%[2]s, streamer doctor%[2]s, streamer preview%[2]s\n",
		command.Output, console.ConfigFlag(command.Output))
	return nil
}

func (command Debezium) report(report debezium.Report, w io.Writer) error {
	if command.JSON {
		return report.WriteJSON(w)
	}
	return report.WriteText(w)
}
