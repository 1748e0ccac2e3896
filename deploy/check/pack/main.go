// Command pack packages the Helm chart as a version of the streamer: pack CHART
// VERSION FOLDER. It does what helm package does, with the library of the tests.
package main

import (
	"fmt"
	"os"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "pack:", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if len(arguments) != 3 || arguments[1] == "" {
		return fmt.Errorf("usage: pack CHART VERSION FOLDER")
	}
	c, err := loader.Load(arguments[0])
	if err != nil {
		return fmt.Errorf("load %s: %w", arguments[0], err)
	}
	c.Metadata.Version, c.Metadata.AppVersion = arguments[1], arguments[1]
	file, err := chartutil.Save(c, arguments[2])
	if err != nil {
		return fmt.Errorf("package %s: %w", arguments[0], err)
	}
	fmt.Println(file)
	return nil
}
