package page

import (
	"bytes"
	"crypto/sha256"
	_ "embed" // the page and its assets
	"encoding/hex"
	"html/template"
	"strings"
)

var (
	//go:embed page.gohtml
	source string
	//go:embed style.css
	style []byte
	//go:embed script.js
	script []byte
	//go:embed icon.svg
	icon []byte
)

var templates = template.Must(template.New("page").Funcs(template.FuncMap{"words": words}).Parse(source))

// parts are the templates that are rendered again and again.
var parts = []string{
	"state", "lag", "rate", "retained", "lagchart", "ratechart", "retainedchart",
	"slot", "topics", "delivery", "instances", "warnings", "about",
}

// assetsVersion changes with the assets and the page itself.
var assetsVersion = func() string {
	hash := sha256.New()
	for _, one := range [][]byte{[]byte(source), style, script, icon} {
		hash.Write(one)
	}
	return hex.EncodeToString(hash.Sum(nil)[:6])
}()

// renderPage renders the whole page.
func renderPage(v View) []byte { return execute("page", v) }

// renderParts renders what may have changed.
func renderParts(v View) map[string]string {
	rendered := make(map[string]string, len(parts))
	for _, name := range parts {
		rendered[name] = string(execute(name, v))
	}
	return rendered
}

// execute renders a template. It cannot fail: the tests execute all of them.
func execute(name string, v View) []byte {
	var text bytes.Buffer
	if err := templates.ExecuteTemplate(&text, name, v); err != nil {
		return []byte("This part of the page cannot be shown.")
	}
	return text.Bytes()
}

// Word is a part of a text: commands are in backquotes there.
type Word struct {
	Text string
	Code bool
}

func words(text string) (all []Word) {
	for i, part := range strings.Split(text, "`") {
		if part != "" {
			all = append(all, Word{part, i%2 == 1})
		}
	}
	return all
}
