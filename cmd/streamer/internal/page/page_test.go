package page

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/ops"
)

const patience = 20 * time.Second

// serve serves a page that is alive until the test ends.
func serve(t *testing.T, p *Page) (server *httptest.Server, stop func()) {
	t.Helper()
	server = httptest.NewServer(p.Handler())
	t.Cleanup(server.Close)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan struct{})
	go func() { defer close(ended); p.Run(ctx) }()
	stop = func() { cancel(); <-ended }
	t.Cleanup(stop)
	return server, stop
}

// answer is what came back for a request.
type answer struct {
	code   int
	header http.Header
	body   string
}

func ask(t *testing.T, method, url string, change func(*http.Request)) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, http.NoBody)
	require.NoError(t, err)
	if change != nil {
		change(r)
	}
	response, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return answer{response.StatusCode, response.Header, string(text)}
}

func get(t *testing.T, url string) answer {
	t.Helper()
	return ask(t, http.MethodGet, url, nil)
}

// watcher reads server-sent events.
type watcher struct {
	t     *testing.T
	lines *bufio.Reader
	leave func()
}

func watch(t *testing.T, address string) *watcher {
	t.Helper()
	ctx, leave := context.WithCancel(t.Context())
	t.Cleanup(leave)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address+"/page/live", http.NoBody)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	t.Cleanup(func() { _ = response.Body.Close() })
	require.Equal(t, http.StatusOK, response.StatusCode)
	assert.Equal(t, "text/event-stream", response.Header.Get("Content-Type"))
	return &watcher{t, bufio.NewReader(response.Body), leave}
}

// next is the next event, or an empty kind at the end.
func (w *watcher) next() (kind string, data update) {
	w.t.Helper()
	for {
		line, err := w.lines.ReadString('\n')
		if err != nil {
			return "", update{}
		}
		if text, ok := strings.CutPrefix(line, "event: "); ok {
			kind = strings.TrimSpace(text)
		}
		if text, ok := strings.CutPrefix(line, "data: "); ok {
			require.NoError(w.t, json.Unmarshal([]byte(text), &data))
			return kind, data
		}
	}
}

// What is served, to whom, and with which headers.
func TestRequests(t *testing.T) {
	t.Parallel()
	server, _ := serve(t, New(about(), healthy().sources()))
	for name, test := range map[string]struct {
		method, path string
		change       func(*http.Request)
		code         int
		kind         string
	}{
		"the page":       {http.MethodGet, "/", nil, http.StatusOK, "text/html; charset=utf-8"},
		"its head":       {http.MethodHead, "/", nil, http.StatusOK, "text/html; charset=utf-8"},
		"the style":      {http.MethodGet, "/page/style.css", nil, http.StatusOK, "text/css; charset=utf-8"},
		"the script":     {http.MethodGet, "/page/script.js", nil, http.StatusOK, "text/javascript; charset=utf-8"},
		"the icon":       {http.MethodGet, "/page/icon.svg", nil, http.StatusOK, "image/svg+xml"},
		"head of events": {http.MethodHead, "/page/live", nil, http.StatusOK, "text/event-stream"},
		"nothing else":   {http.MethodGet, "/index.html", nil, http.StatusNotFound, ""},
		"nothing below":  {http.MethodGet, "/page/", nil, http.StatusNotFound, ""},
		"no way up":      {http.MethodGet, "/page/..%2fpage.gohtml", nil, http.StatusNotFound, ""},
		"no action":      {http.MethodPost, "/", nil, http.StatusMethodNotAllowed, ""},
		"no deletion":    {http.MethodDelete, "/page/live", nil, http.StatusMethodNotAllowed, ""},
		"as localhost":   {http.MethodGet, "/", func(r *http.Request) { r.Host = "LOCALHOST:9180" }, http.StatusOK, ""},
		"by IPv6":        {http.MethodGet, "/", func(r *http.Request) { r.Host = "[::1]:9180" }, http.StatusOK, ""},
		"DNS rebinding":  {http.MethodGet, "/", func(r *http.Request) { r.Host = "evil.example:9180" }, http.StatusMisdirectedRequest, ""},
		"rebinding live": {http.MethodGet, "/page/live", func(r *http.Request) { r.Host = "evil.example" }, http.StatusMisdirectedRequest, ""},
		"another site": {
			http.MethodGet, "/page/live", func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }, http.StatusForbidden, "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := ask(t, test.method, server.URL+test.path, test.change)
			assert.Equal(t, test.code, got.code)
			if test.kind != "" {
				assert.Equal(t, test.kind, got.header.Get("Content-Type"))
			}
			for header, want := range map[string]string{
				"Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; " +
					"frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
				"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
				"Cross-Origin-Resource-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin",
			} {
				assert.Equal(t, want, got.header.Get(header), header)
			}
		})
	}
}

// At an address that is not only for this machine, the page is known by the
// names that the network has for it.
func TestNamesOfTheNetwork(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]bool{"127.0.0.1": false, "::1": false, "10.1.2.3": true} {
		ctx := context.WithValue(t.Context(), http.LocalAddrContextKey, &net.TCPAddr{IP: net.ParseIP(address), Port: 9180})
		r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
		r.Host = "streamer.prod.svc:9180"
		assert.Equal(t, want, itself(r), address)
	}
}

// Assets may be kept as long as they are those of this version.
func TestAssetsAreCached(t *testing.T) {
	t.Parallel()
	server, _ := serve(t, New(about(), healthy().sources()))
	page := get(t, server.URL+"/").body
	for _, path := range []string{"/page/style.css", "/page/script.js", "/page/icon.svg"} {
		address := path + "?v=" + assetsVersion
		assert.Contains(t, page, `"`+address+`"`)
		assert.Equal(t, "max-age=31536000, immutable", get(t, server.URL+address).header.Get("Cache-Control"))
		assert.Equal(t, "no-store", get(t, server.URL+path+"?v=older").header.Get("Cache-Control"))
	}
}

// The page has all parts without a script, and none of its styles or scripts are
// inline.
func TestPageIsWhole(t *testing.T) {
	t.Parallel()
	s := healthy()
	p := New(about(), s.sources())
	now := s.grow(p, time.Now(), 1000, 0)
	p.look(now)
	v := p.view(now)
	page := string(renderPage(v))
	for name, part := range renderParts(v) {
		assert.Contains(t, page, `data-part="`+name+`"`)
		assert.Contains(t, page, part)
		assert.NotContains(t, part, "cannot be shown")
	}
	for _, text := range []string{
		"shop.order", "Streaming, keeps up", "exactly once", "v1.2.3", `<noscript><meta http-equiv="refresh" content="10">`,
	} {
		assert.Contains(t, page, text)
	}
	for _, not := range []string{"style=", "<style", "onload", "onclick", "javascript:", "http://", "https://", "<form", "<input", "<button"} {
		assert.NotContains(t, strings.ReplaceAll(page, `http-equiv="`, ""), not)
	}
}

// Whatever has a hostile name is text, in the page and in what is sent live.
func TestHostileNamesAreText(t *testing.T) {
	t.Parallel()
	s := besieged()
	p := New(about(), s.sources())
	p.look(time.Now())
	v := p.view(time.Now())
	everything := renderParts(v)
	everything["page"] = string(renderPage(v))
	all := strings.Join(slices.Collect(maps.Values(everything)), "")
	assert.NotContains(t, all, "<script>")
	assert.NotContains(t, all, "<img")
	assert.NotContains(t, all, `"'`+"`")
	assert.GreaterOrEqual(t, strings.Count(all, "&lt;script&gt;hacked=1"), 20, "it is shown, as text")
	message := event("update", update{Parts: renderParts(v)})
	assert.Equal(t, 3, strings.Count(string(message), "\n"), "a line break would end the event")
}

// A viewer first gets everything, and then what has changed, once a second.
func TestLive(t *testing.T) {
	t.Parallel()
	s := healthy()
	p := New(about(), s.sources())
	server, stop := serve(t, p)
	w := watch(t, server.URL)
	kind, first := w.next()
	assert.Equal(t, "update", kind)
	assert.Len(t, first.Parts, len(parts))
	assert.Equal(t, assetsVersion, first.Assets)
	s.change(func(s *streamer) { s.figures.Topics = map[string]ops.Topic{"new": {Events: 3}} })
	for seen := ""; !strings.Contains(seen, "new"); {
		var next update
		kind, next = w.next()
		require.Equal(t, "update", kind)
		assert.NotContains(t, next.Parts, "instances", "nothing has changed there")
		seen = next.Parts["topics"]
	}
	stop()
	for kind == "update" {
		kind, _ = w.next()
	}
	assert.Equal(t, "end", kind, "the streamer says goodbye")
	kind, _ = w.next()
	assert.Empty(t, kind)
	assert.Equal(t, http.StatusServiceUnavailable, get(t, server.URL+"/page/live").code)
}

// Nothing is rendered, and the figures are read rarely, while nobody watches.
func TestNobodyWatches(t *testing.T) {
	t.Parallel()
	s := healthy()
	p := New(about(), s.sources())
	now := p.history.started
	for n := range 60 {
		p.tick(now.Add(time.Duration(n) * time.Second))
	}
	assert.Equal(t, 11, s.asked)
	assert.Nil(t, p.viewers.shown)
	assert.Nil(t, p.whole)

	one, err := p.subscribe(now.Add(time.Minute))
	require.NoError(t, err)
	p.tick(now.Add(61 * time.Second))
	p.unsubscribe(one)
	assert.Nil(t, p.viewers.shown)
	before := s.asked
	p.tick(now.Add(62 * time.Second))
	assert.Equal(t, before, s.asked)
}

// A reload storm costs one rendering a second.
func TestReloads(t *testing.T) {
	t.Parallel()
	s := healthy()
	p := New(about(), s.sources())
	now := time.Now()
	for range 1000 {
		p.render(now)
	}
	assert.Equal(t, 1, s.asked)
	p.render(now.Add(time.Second))
	assert.Equal(t, 2, s.asked)
}

// The number of viewers is bounded, and a place becomes free when one goes.
func TestManyViewers(t *testing.T) {
	t.Parallel()
	p := New(about(), healthy().sources())
	server, _ := serve(t, p)
	first := watch(t, server.URL)
	for range mostViewers - 1 {
		watch(t, server.URL)
	}
	refused := get(t, server.URL+"/page/live")
	assert.Equal(t, http.StatusServiceUnavailable, refused.code)
	assert.Equal(t, "10", refused.header.Get("Retry-After"))
	assert.Equal(t, http.StatusOK, get(t, server.URL+"/").code, "the page is there all the same")
	first.leave()
	require.Eventually(t, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.viewers.all) < mostViewers
	}, patience, 20*time.Millisecond)
	watch(t, server.URL)
}

// A viewer that does not keep up is dropped, and delays nobody.
func TestSlowViewer(t *testing.T) {
	t.Parallel()
	s := healthy()
	p := New(about(), s.sources())
	now := p.history.started
	slow, err := p.subscribe(now)
	require.NoError(t, err)
	quick, err := p.subscribe(now)
	require.NoError(t, err)
	<-quick.updates
	for n := range backlog + 2 {
		p.tick(now.Add(time.Duration(n+1) * time.Second))
		<-quick.updates
	}
	assert.Len(t, p.viewers.all, 1)
	received := 0
	for range slow.updates {
		received++
	}
	assert.Equal(t, backlog, received, "and is closed")
	p.unsubscribe(slow) // as its handler does
	p.unsubscribe(quick)
	p.unsubscribe(quick)
}

// Many who come at once neither drop those who are there nor cost a rendering
// each.
func TestCrowd(t *testing.T) {
	t.Parallel()
	s := healthy()
	p := New(about(), s.sources())
	now := p.history.started.Add(time.Minute)
	for range mostViewers {
		_, err := p.subscribe(now)
		require.NoError(t, err)
	}
	assert.Len(t, p.viewers.all, mostViewers)
	assert.Equal(t, 1, s.asked)
}

// All viewers get the same bytes, rendered once.
func TestViewersShare(t *testing.T) {
	t.Parallel()
	p := New(about(), healthy().sources())
	now := p.history.started
	var all []*viewer
	for range 10 {
		one, err := p.subscribe(now)
		require.NoError(t, err)
		for len(one.updates) > 0 {
			<-one.updates
		}
		for _, other := range all {
			for len(other.updates) > 0 {
				<-other.updates
			}
		}
		all = append(all, one)
	}
	p.tick(now.Add(time.Second))
	same := map[string]bool{}
	for _, one := range all {
		same[fmt.Sprintf("%p", <-one.updates)] = true
	}
	assert.Len(t, same, 1)
}
