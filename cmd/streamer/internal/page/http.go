package page

import (
	"errors"
	"net"
	"net/http"
	"strings"
	"time"
)

const (
	// writeTimeout is how long a viewer may take to receive something.
	writeTimeout = 5 * time.Second
	// retryAfter is what a browser is told to wait before it connects again.
	retryAfter = "retry: 2000\n\n"
)

// Handler serves the page at / and everything that belongs to it below /page/.
func (p *Page) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", p.page)
	mux.HandleFunc("GET /page/live", p.live)
	for path, asset := range map[string]asset{
		"/page/style.css": {"text/css; charset=utf-8", style},
		"/page/script.js": {"text/javascript; charset=utf-8", script},
		"/page/icon.svg":  {"image/svg+xml", icon},
	} {
		mux.Handle("GET "+path, asset)
	}
	return guarded(mux)
}

// policy allows what the page's own address serves, and nothing else.
const policy = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; " +
	"frame-ancestors 'none'; base-uri 'none'; form-action 'none'"

// guarded adds what tells browsers to be careful, and refuses requests that
// reach this address under a name that is not its own.
func guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		if !itself(r) {
			http.Error(w, "This address serves only this machine. Open it as localhost or by its IP address; "+
				"a proxy in front of it has to send such a Host.", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// itself reports whether the browser may know this address by the name that it
// uses. At a loopback address a name of the network is a trick: DNS rebinding,
// with which a page from elsewhere reads what only this machine may see.
func itself(r *http.Request) bool {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if ok && !local.IP.IsLoopback() {
		return true
	}
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || net.ParseIP(host) != nil
}

// page serves the whole page, which shows everything without a script, too.
func (p *Page) page(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
	_, _ = w.Write(p.render(time.Now()))
}

// live sends updates until the viewer goes, is too slow, or the streamer stops.
func (p *Page) live(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Sec-Fetch-Site") == "cross-site" {
		http.Error(w, "not for other sites", http.StatusForbidden)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // for a proxy in between
	if r.Method == http.MethodHead {
		return
	}
	one, err := p.subscribe(time.Now())
	if err != nil {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Retry-After", "10")
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	defer p.unsubscribe(one)
	send := sender(w)
	if send([]byte(retryAfter)) != nil {
		return
	}
	for {
		select {
		case <-r.Context().Done():
			return
		case message, open := <-one.updates:
			if !open || send(message) != nil {
				return
			}
		}
	}
}

// sender writes and flushes within the time that a viewer has.
func sender(w http.ResponseWriter) func([]byte) error {
	control := http.NewResponseController(w)
	return func(message []byte) error {
		err := control.SetWriteDeadline(time.Now().Add(writeTimeout))
		if errors.Is(err, http.ErrNotSupported) {
			err = nil
		}
		if err == nil {
			_, err = w.Write(message)
		}
		if err == nil {
			err = control.Flush()
		}
		return err
	}
}

// asset is a file that belongs to the page.
type asset struct {
	kind    string
	content []byte
}

// ServeHTTP serves the file. Its address contains its version, so that it may be
// kept for long.
func (a asset) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", a.kind)
	if r.URL.Query().Get("v") == assetsVersion {
		w.Header().Set("Cache-Control", "max-age=31536000, immutable")
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
	_, _ = w.Write(a.content)
}
