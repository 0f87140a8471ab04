// Command admin-domain keeps the administrators of an API gateway to one email
// domain. It receives the event "an admin was created" from a webhook hook,
// checks that the event is genuine, and deletes the admin through the gateway's
// admin API if the email address is of another domain.
//
// It is an example to copy: this one file, the standard library, nothing else.
package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "admin-domain:", err)
		os.Exit(1)
	}
}

func run() error {
	s, err := readSettings(os.LookupEnv)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	server := &http.Server{
		Addr: s.addr, Handler: newReceiver(s),
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 20 * time.Second, IdleTimeout: time.Minute,
	}
	ended := make(chan error, 1)
	go func() { ended <- server.ListenAndServe() }()
	slog.Info("waiting for events", "addr", s.addr, "path", "/admin-created", "allowed_domain", s.domain)
	select {
	case err := <-ended:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	// What is being answered is answered.
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return server.Shutdown(ctx)
}

// settings come from the environment.
type settings struct {
	secret   []byte   // SECRET: the hook's config.secret
	domain   string   // ALLOWED_DOMAIN: example.com
	adminAPI *url.URL // ADMIN_API: the gateway's admin API, http://127.0.0.1:8001
	token    string   // ADMIN_TOKEN: sent as Kong-Admin-Token
	addr     string   // ADDR: where to listen; default 127.0.0.1:3000
}

// readSettings reports all mistakes at once.
func readSettings(lookup func(string) (string, bool)) (settings, error) {
	var faults []error
	need := func(name string) string {
		v, _ := lookup(name)
		if v = strings.TrimSpace(v); v == "" {
			faults = append(faults, fmt.Errorf("%s is not set", name))
		}
		return v
	}
	s := settings{
		secret: []byte(need("SECRET")),
		domain: lowerASCII(strings.TrimPrefix(need("ALLOWED_DOMAIN"), "@")),
		token:  need("ADMIN_TOKEN"),
		addr:   "127.0.0.1:3000",
	}
	if v, ok := lookup("ADDR"); ok && v != "" {
		s.addr = v
	}
	if strings.ContainsAny(s.domain, "@/: ") {
		faults = append(faults, errors.New("ALLOWED_DOMAIN is not a domain such as example.com"))
	}
	if api := need("ADMIN_API"); api != "" {
		u, err := url.Parse(api)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.RawQuery != "" || u.User != nil {
			faults = append(faults, errors.New("ADMIN_API is not a URL such as http://127.0.0.1:8001"))
		}
		s.adminAPI = u
	}
	return s, errors.Join(faults...)
}

// maxBody bounds an event; the sender's own bound is 256 KB and a little.
const maxBody = 1 << 20

type receiver struct {
	settings
	client *http.Client
}

// newReceiver returns the handler of POST /admin-created.
func newReceiver(s settings) http.Handler {
	r := &receiver{settings: s, client: &http.Client{
		Timeout: 5 * time.Second, // well within the 10 s that the hook waits for us
		// A redirect would carry the admin token to wherever it points.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /admin-created", r.adminCreated)
	return mux
}

// event is what we need of the body that a webhook hook sends.
type event struct {
	Source    string `json:"source"`
	Event     string `json:"event"`
	Operation string `json:"operation"`
	Entity    struct {
		ID    string `json:"id"`
		Email string `json:"email"`
	} `json:"entity"`
}

// created reports whether the event tells of a new admin. A hook on
// "admins:create" gets nothing else, one on "admins" gets updates and deletes
// too, and every webhook hook gets a ping when it is made.
func (e event) created() bool {
	return e.Source == "crud" && (e.Event == "admins:create" || e.Event == "admins" && e.Operation == "create")
}

// adminCreated answers 2xx only when the matter is settled. On anything else
// the event is delivered again later, which is harmless: deleting an admin that
// is gone changes nothing.
func (r *receiver) adminCreated(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxBody))
	if err != nil {
		status := http.StatusBadRequest
		if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
			status = http.StatusRequestEntityTooLarge
		}
		answer(w, status, "the body could not be read")
		return
	}
	// Before anything of the body is believed. The signature is that of the
	// bytes as they came: JSON that was decoded and encoded again may differ.
	if !genuine(r.secret, req.Header.Get("x-kong-signature"), body) {
		answer(w, http.StatusUnauthorized, "the signature is missing or wrong")
		return
	}
	var e event
	if err := json.Unmarshal(body, &e); err != nil {
		answer(w, http.StatusBadRequest, "the body is not an event")
		return
	}
	switch {
	case !e.created():
		answer(w, http.StatusOK, "nothing to do")
		return
	case allowed(e.Entity.Email, r.domain):
		answer(w, http.StatusOK, "the admin may stay")
		return
	case !isUUID(e.Entity.ID):
		// It becomes part of a URL: "../services/x" must not.
		answer(w, http.StatusBadRequest, "entity.id is not a UUID")
		return
	}
	if err := r.deleteAdmin(req.Context(), e.Entity.ID); err != nil {
		slog.Error("admin not deleted", "admin_id", e.Entity.ID, "err", err)
		answer(w, http.StatusBadGateway, "the admin could not be deleted, try again later")
		return
	}
	slog.Info("admin deleted", "admin_id", e.Entity.ID)
	answer(w, http.StatusOK, "the admin was deleted")
}

// genuine reports whether signature, "sha256=<hex>", is the HMAC-SHA256 of the
// body under the secret. The comparison takes the same time wherever the two
// differ.
func genuine(secret []byte, signature string, body []byte) bool {
	encoded, ok := strings.CutPrefix(signature, "sha256=")
	if !ok {
		return false
	}
	got, err := hex.DecodeString(encoded)
	if err != nil {
		return false
	}
	m := hmac.New(sha256.New, secret)
	m.Write(body)
	return hmac.Equal(got, m.Sum(nil))
}

// allowed reports whether the address is of exactly this domain: what follows
// the last @, in any case of letters. Comparing the end of the whole address
// would let evilexample.com pass for example.com.
func allowed(email, domain string) bool {
	at := strings.LastIndexByte(email, '@')
	return at > 0 && lowerASCII(email[at+1:]) == domain
}

// lowerASCII is strings.ToLower for ASCII alone: that one also turns the
// Kelvin sign into a k, so that another domain could look like ours.
func lowerASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + ('a' - 'A')
		}
	}
	return string(b)
}

// isUUID reports whether s is a UUID of 36 characters.
func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if c != '-' {
				return false
			}
		case (c < '0' || c > '9') && (c < 'a' || c > 'f') && (c < 'A' || c > 'F'):
			return false
		}
	}
	return true
}

// deleteAdmin removes the admin from the gateway. One that is not there is
// removed already: by an earlier delivery of the same event, or by a person.
func (r *receiver) deleteAdmin(ctx context.Context, id string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodDelete, r.adminAPI.JoinPath("admins", id).String(), nil)
	if err != nil {
		return err
	}
	req.Header.Set("Kong-Admin-Token", r.token)
	resp, err := r.client.Do(req)
	if err != nil {
		return fmt.Errorf("call the gateway: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10) // so that the connection is used again
	if resp.StatusCode/100 != 2 && resp.StatusCode != http.StatusNotFound {
		return fmt.Errorf("call the gateway: it answered %d", resp.StatusCode)
	}
	return nil
}

func answer(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"message": message})
}
