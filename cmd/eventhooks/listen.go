package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"eventhooks/internal/hook"
	"eventhooks/internal/sign"
)

// listenOptions are the flags of listen.
type listenOptions struct {
	addr   string
	secret string
	fail   int
	status int
}

func newListen() *cobra.Command {
	var o listenOptions
	cmd := &cobra.Command{
		Use:   "listen",
		Short: "Receive what hooks send, print it, and check its signature",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return listen(cmd.Context(), o, cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.addr, "addr", "127.0.0.1:9000", "`host:port` to listen on")
	f.StringVar(&o.secret, "secret", "", "the hook's `secret`, to check signatures with")
	f.IntVar(&o.fail, "fail", 0, "answer 503 to the first `n` requests, to see retries")
	f.IntVar(&o.status, "status", http.StatusOK, "the `code` to answer with")
	return cmd
}

// maxShown bounds the body that is read and printed.
const maxShown = 1 << 20

func listen(ctx context.Context, o listenOptions, out io.Writer) error {
	if o.status < 200 || o.status > 599 {
		return fmt.Errorf("--status: %d is not an HTTP status from 200 to 599", o.status)
	}
	if o.fail < 0 {
		return fmt.Errorf("--fail: %d is less than 0", o.fail)
	}
	if fault := sign.CheckSecret(hook.NewSecret(o.secret)); fault != "" {
		return fmt.Errorf("--secret: %s", fault)
	}
	l, err := net.Listen("tcp", o.addr)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	fmt.Fprintf(out, "listening on http://%s, Ctrl-C ends\n", l.Addr())
	srv := &http.Server{Handler: &receiver{o: o, out: out, now: time.Now}, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		<-ctx.Done()
		srv.Close()
	}()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// receiver prints every request, whole and one at a time.
type receiver struct {
	o   listenOptions
	now func() time.Time

	mu  sync.Mutex
	out io.Writer
	n   int
}

func (rc *receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxShown))
	rc.mu.Lock()
	defer rc.mu.Unlock()
	rc.n++
	status := rc.o.status
	if rc.n <= rc.o.fail {
		status = http.StatusServiceUnavailable
	}
	fmt.Fprintf(rc.out, "\n#%d %s %s\n", rc.n, r.Method, printable(r.URL.RequestURI()))
	if err != nil {
		fmt.Fprintln(rc.out, "  the body could not be read:", err)
	}
	var names []string
	for name := range r.Header {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(rc.out, "  %s: %s\n", strings.ToLower(name), printable(strings.Join(r.Header[name], ", ")))
	}
	fmt.Fprintf(rc.out, "  signature: %s\n", rc.signature(r.Header, body))
	var pretty bytes.Buffer
	if json.Indent(&pretty, body, "  ", "  ") == nil {
		fmt.Fprintf(rc.out, "  %s\n", printable(pretty.String()))
	} else if len(body) > 0 {
		fmt.Fprintf(rc.out, "  %s\n", printable(string(body)))
	}
	fmt.Fprintf(rc.out, "  answered %d\n", status)
	w.WriteHeader(status)
}

// signature says in words whether the request is signed with the secret.
func (rc *receiver) signature(h http.Header, body []byte) string {
	signed := h.Get("webhook-signature") != "" || h.Get("x-kong-signature") != ""
	switch {
	case !signed && rc.o.secret == "":
		return "none"
	case !signed:
		return "MISSING: the hook has no secret"
	case rc.o.secret == "":
		return "not checked; give --secret"
	}
	if err := sign.Verify(hook.NewSecret(rc.o.secret), h, body, rc.now()); err != nil {
		return "WRONG: " + err.Error()
	}
	return "right"
}

// printable keeps a sender from steering the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || (r >= ' ' && r != 0x7f && (r < 0x80 || r > 0x9f)) {
			return r
		}
		return '\uFFFD'
	}, s)
}
