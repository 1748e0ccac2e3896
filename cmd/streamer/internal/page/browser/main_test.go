package browser

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/pgtest"
	"github.com/outboxstream/streamer/internal/testserver"
)

// binary is the streamer under test, built once.
var binary string

func TestMain(m *testing.M) {
	folder, err := os.MkdirTemp("", "streamer-browser-*")
	if err == nil {
		binary = filepath.Join(folder, "streamer")
		err = testserver.Build(context.Background(), "../../../../..", "./cmd/streamer", binary)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := testserver.Main(m, pgtest.CloseShared, closeBrowser)
	_ = os.RemoveAll(folder)
	os.Exit(code)
}

// names under which the browser may be installed.
var names = []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"}

// executable finds the browser, or installs it.
func executable() (string, error) {
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	remedy := "install Debian's package chromium: apt-get install chromium"
	if os.Getuid() != 0 {
		return "", fmt.Errorf("no chromium: %s", remedy)
	}
	fmt.Println("browser: installing chromium")
	for _, arguments := range [][]string{{"update", "-q"}, {"install", "-q", "-y", "--no-install-recommends", "chromium"}} {
		install := exec.CommandContext(context.Background(), "apt-get", arguments...)
		install.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if output, err := install.CombinedOutput(); err != nil {
			return "", fmt.Errorf("no chromium: %s: apt-get %s: %w: %s", remedy, arguments[0], err, output)
		}
	}
	return exec.LookPath(names[0])
}

var browser struct {
	once   sync.Once
	window context.Context
	close  func()
	err    error
}

// start starts the browser, which all tests share.
func start() {
	path, err := executable()
	if err != nil {
		browser.err = err
		return
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox) // root may not have one
	allocated, release := chromedp.NewExecAllocator(context.Background(), options...)
	window, end := chromedp.NewContext(allocated)
	browser.window = window
	browser.close = func() { end(); release() }
	browser.err = chromedp.Do(window)
}

func closeBrowser() {
	if browser.close != nil {
		browser.close()
	}
}

// shared is the browser. Without one the test fails: nothing else would see what
// it is for.
func shared(t *testing.T) context.Context {
	t.Helper()
	browser.once.Do(start)
	require.NoError(t, browser.err)
	return browser.window
}

const (
	axeVersion   = "4.14.1"
	axeIntegrity = "sha512-FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="
)

// axe is the source of axe-core, an automated check of accessibility. It comes
// from npm, and is checked.
func axe(t *testing.T) string {
	t.Helper()
	folder, err := testserver.Cached(t.Context(), "axe-core-"+axeVersion, func(line string) { t.Log(line) }, func(folder string) error {
		pack := exec.CommandContext(t.Context(), "npm", "pack", "--silent", "axe-core@"+axeVersion)
		pack.Dir = folder
		if output, err := pack.CombinedOutput(); err != nil {
			return fmt.Errorf("axe-core from npm (install Node.js): %w: %s", err, output)
		}
		return unpack(filepath.Join(folder, "axe-core-"+axeVersion+".tgz"), axeIntegrity, "package/axe.min.js", filepath.Join(folder, "axe.js"))
	})
	testserver.Require(t, err)
	file, err := os.Open(filepath.Join(folder, "axe.js"))
	require.NoError(t, err)
	defer file.Close()
	source, err := io.ReadAll(file)
	require.NoError(t, err)
	return string(source)
}
