package ops

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/pipeline"
)

// Server answers /healthz (the process is alive), /readyz (it streams or is on
// standby), /metrics, and, if enabled, /debug/pprof and the status page at /.
type Server struct {
	http     http.Server
	listener net.Listener
}

// Health is the answer of /readyz.
type Health struct {
	Ready  bool           `json:"ready"`
	Phase  pipeline.Phase `json:"phase"`
	Detail string         `json:"detail,omitempty"`
	Since  time.Time      `json:"since,omitzero"`
}

// Listen opens the port, so that a port in use is detected before streaming
// starts. A page of nil means that there is none.
func Listen(address string, profiles bool, m *Metrics, status func() pipeline.Status, page http.Handler) (*Server, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, failure.Misconfigure(failure.Advise(
			fmt.Errorf("http.listen: %w", err), "choose another address, or an empty one for no endpoint",
		))
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { ready(w, status()) })
	if profiles {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	if page != nil {
		mux.Handle("GET /{$}", page)
		mux.Handle("GET /page/", page)
	}
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	return &Server{listener: listener, http: http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, MaxHeaderBytes: 16 << 10}}, nil
}

func ready(w http.ResponseWriter, s pipeline.Status) {
	w.Header().Set("Content-Type", "application/json")
	if !s.Ready() {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(Health{Ready: s.Ready(), Phase: s.Phase, Detail: s.Detail, Since: s.Since})
}

// Serve answers until Close.
func (s *Server) Serve() error {
	if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("http endpoint: %w", err)
	}
	return nil
}

// Close stops answering.
func (s *Server) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = s.http.Shutdown(ctx)
}
