// Command sbom writes the bill of materials of a Go binary, as CycloneDX JSON,
// from what the build has recorded in it: sbom BINARY FILE
// [VERSION]. A release knows its version; Go records it only where the tag is.
package main

import (
	"bytes"
	"debug/buildinfo"
	"fmt"
	"os"
	"runtime/debug"
	"strings"

	cyclonedx "github.com/CycloneDX/cyclonedx-go"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if len(arguments) < 2 || len(arguments) > 3 {
		return fmt.Errorf("usage: sbom BINARY FILE [VERSION]")
	}
	info, err := buildinfo.ReadFile(arguments[0])
	if err != nil {
		return fmt.Errorf("read %s: %w", arguments[0], err)
	}
	if len(arguments) == 3 {
		info.Main.Version = arguments[2]
	}
	bom := cyclonedx.NewBOM()
	main := component(&info.Main)
	main.Type = cyclonedx.ComponentTypeApplication
	bom.Metadata = &cyclonedx.Metadata{Component: &main}
	components := []cyclonedx.Component{{
		Type: cyclonedx.ComponentTypeLibrary, Name: "std", Version: strings.TrimPrefix(info.GoVersion, "go"),
		PackageURL: "pkg:golang/std@" + strings.TrimPrefix(info.GoVersion, "go"), BOMRef: "std",
	}}
	for _, m := range info.Deps {
		for m.Replace != nil {
			m = m.Replace
		}
		components = append(components, component(m))
	}
	bom.Components = &components
	var document bytes.Buffer
	encoder := cyclonedx.NewBOMEncoder(&document, cyclonedx.BOMFileFormatJSON)
	encoder.SetPretty(true)
	if err := encoder.Encode(bom); err != nil {
		return err
	}
	return os.WriteFile(arguments[1], document.Bytes(), 0o644)
}

// component is a module. Its checksum is the one of go.sum.
func component(m *debug.Module) cyclonedx.Component {
	reference := "pkg:golang/" + m.Path + "@" + m.Version
	c := cyclonedx.Component{Type: cyclonedx.ComponentTypeLibrary, Name: m.Path, Version: m.Version, PackageURL: reference, BOMRef: reference}
	if m.Sum != "" {
		c.Properties = &[]cyclonedx.Property{{Name: "go:sum", Value: m.Sum}}
	}
	return c
}
