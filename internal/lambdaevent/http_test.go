package lambdaevent_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/google/go-cmp/cmp"

	"eventhooks/internal/lambdaevent"
)

// call hands an event to a handler through the adapter.
func call(t *testing.T, ev events.APIGatewayV2HTTPRequest, h http.HandlerFunc) events.APIGatewayV2HTTPResponse {
	t.Helper()
	resp, err := lambdaevent.HTTP(h)(t.Context(), ev)
	if err != nil {
		t.Fatalf("HTTP adapter: %v", err)
	}
	return resp
}

func request(method, path string) events.APIGatewayV2HTTPRequest {
	ev := events.APIGatewayV2HTTPRequest{Version: "2.0", RouteKey: "$default", RawPath: path, Headers: map[string]string{}}
	ev.RequestContext.Stage = "$default"
	ev.RequestContext.DomainName = "abc.execute-api.eu-west-1.amazonaws.com"
	ev.RequestContext.HTTP.Method = method
	ev.RequestContext.HTTP.SourceIP = "192.0.2.7"
	return ev
}

func TestHTTP_request(t *testing.T) {
	t.Run("header values stay whole, commas or not", func(t *testing.T) {
		ev := request("GET", "/")
		ev.Headers = map[string]string{
			"webhook-signature": "v1,abc= v1,def=",
			"date":              "Sat, 21 Nov 2026 20:00:00 GMT",
			"x-list":            "t=1,v1=ab",
		}
		call(t, ev, func(_ http.ResponseWriter, r *http.Request) {
			for name, want := range ev.Headers {
				if got := r.Header.Values(name); len(got) != 1 || got[0] != want {
					t.Errorf("header %s = %q; want %q", name, got, want)
				}
			}
		})
	})
	t.Run("cookies become one header", func(t *testing.T) {
		ev := request("GET", "/")
		ev.Cookies = []string{"a=1", "b=2,3"}
		call(t, ev, func(_ http.ResponseWriter, r *http.Request) {
			if got := r.Header.Get("Cookie"); got != "a=1; b=2,3" {
				t.Errorf("Cookie = %q; want %q", got, "a=1; b=2,3")
			}
			if c, err := r.Cookie("b"); err != nil || c.Value != "2,3" {
				t.Errorf("cookie b = %v, %v; want 2,3", c, err)
			}
		})
	})
	t.Run("the host comes from the header, else from the domain", func(t *testing.T) {
		ev := request("GET", "/")
		call(t, ev, func(_ http.ResponseWriter, r *http.Request) {
			if r.Host != "abc.execute-api.eu-west-1.amazonaws.com" {
				t.Errorf("Host = %q; want the domain", r.Host)
			}
		})
		ev.Headers["host"] = "hooks.example.test"
		call(t, ev, func(_ http.ResponseWriter, r *http.Request) {
			if r.Host != "hooks.example.test" || r.Header.Get("Host") != "" {
				t.Errorf("Host = %q, header %q; want the header's, and no header", r.Host, r.Header.Get("Host"))
			}
		})
	})
	t.Run("method, address, protocol and query come through", func(t *testing.T) {
		ev := request("PATCH", "/event-hooks")
		ev.RawQueryString = "size=10&tags=a%2Cb&offset=a%2Bb%3D"
		call(t, ev, func(_ http.ResponseWriter, r *http.Request) {
			if r.Method != "PATCH" || r.RemoteAddr != "192.0.2.7:0" || !r.ProtoAtLeast(1, 1) {
				t.Errorf("request = %s from %s by %s; want PATCH from 192.0.2.7:0 by HTTP/1.1", r.Method, r.RemoteAddr, r.Proto)
			}
			q := r.URL.Query()
			if q.Get("size") != "10" || q.Get("tags") != "a,b" || q.Get("offset") != "a+b=" {
				t.Errorf("query = %v; want size 10, tags a,b, offset a+b=", q)
			}
			if want := "/event-hooks?" + ev.RawQueryString; r.RequestURI != want {
				t.Errorf("RequestURI = %q; want %q", r.RequestURI, want)
			}
		})
	})
	t.Run("no body is an empty body", func(t *testing.T) {
		call(t, request("POST", "/"), func(_ http.ResponseWriter, r *http.Request) {
			b, err := io.ReadAll(r.Body)
			if len(b) != 0 || err != nil || r.ContentLength != 0 {
				t.Errorf("body = %q, %v, length %d; want none", b, err, r.ContentLength)
			}
		})
	})
	t.Run("a body is read as it was sent, encoded or not", func(t *testing.T) {
		for _, body := range []string{`{"a":"ü"}`, "\xff\x00\xfe"} {
			for _, encode := range []bool{false, true} {
				if !encode && body[0] == 0xff {
					continue // such an event cannot be
				}
				ev := request("POST", "/")
				ev.Body, ev.IsBase64Encoded = body, encode
				if encode {
					ev.Body = base64.StdEncoding.EncodeToString([]byte(body))
				}
				call(t, ev, func(_ http.ResponseWriter, r *http.Request) {
					b, err := io.ReadAll(r.Body)
					if string(b) != body || err != nil || r.ContentLength != int64(len(body)) {
						t.Errorf("body = %q, %v, length %d; want %q", b, err, r.ContentLength, body)
					}
				})
			}
		}
	})
	t.Run("the invocation's deadline is the request's", func(t *testing.T) {
		want := time.Now().Add(time.Minute)
		ctx, cancel := context.WithDeadline(t.Context(), want)
		defer cancel()
		_, err := lambdaevent.HTTP(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if got, ok := r.Context().Deadline(); !ok || !got.Equal(want) {
				t.Errorf("deadline = %v, %v; want %v", got, ok, want)
			}
		}))(ctx, request("GET", "/"))
		if err != nil {
			t.Errorf("HTTP adapter: %v", err)
		}
	})
	t.Run("an event of another kind is an error", func(t *testing.T) {
		for name, ev := range map[string]events.APIGatewayV2HTTPRequest{
			"empty":            {},
			"a REST API event": {Version: "1.0"},
			"broken base64":    {Version: "2.0", Body: "%", IsBase64Encoded: true, RequestContext: request("GET", "/").RequestContext},
		} {
			_, err := lambdaevent.HTTP(http.NotFoundHandler())(t.Context(), ev)
			if err == nil {
				t.Errorf("%s: no error; want one", name)
			}
		}
	})
}

func TestHTTP_paths(t *testing.T) {
	tests := []struct {
		name, route, stage, raw string
		want                    string // URL.Path
	}{
		{"an ordinary path", "$default", "$default", "/event-hooks/1", "/event-hooks/1"},
		{"no path", "$default", "$default", "", "/"},
		{"a percent sign that was encoded", "$default", "$default", "/100%/%41", "/100%/%41"},
		{"a question mark that was encoded", "$default", "$default", "/a?b=c", "/a?b=c"},
		{"a number sign that was encoded", "$default", "$default", "/a#b", "/a#b"},
		{"a space", "$default", "$default", "/a b", "/a b"},
		{"two slashes", "$default", "$default", "//x//y", "//x//y"},
		{"letters beyond ASCII", "$default", "$default", "/ü/日本", "/ü/日本"},
		{"a stage", "$default", "prod", "/prod/event-hooks", "/event-hooks"},
		{"a stage alone", "$default", "prod", "/prod", "/"},
		{"a name that begins like the stage", "$default", "prod", "/products", "/products"},
		{"a custom domain without the stage", "$default", "prod", "/event-hooks", "/event-hooks"},
		{"a route", "POST /events", "$default", "/events", "/events"},
		{"a route under a stage", "POST /events/{source}/{event}", "prod", "/prod/events/a/b", "/events/a/b"},
		{"a route under a base path", "POST /events/{source}/{event}", "$default", "/hooks/v1/events/a/b", "/events/a/b"},
		{"a route with a slash that was encoded", "POST /events/{source}/{event}", "$default", "/events/a/b/c", "/events/a/b/c"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ev := request("POST", tt.raw)
			ev.RouteKey, ev.RequestContext.Stage = tt.route, tt.stage
			call(t, ev, func(_ http.ResponseWriter, r *http.Request) {
				if r.URL.Path != tt.want {
					t.Errorf("path = %q; want %q", r.URL.Path, tt.want)
				}
				if r.URL.RawQuery != "" || r.URL.Fragment != "" || r.URL.Host != "" {
					t.Errorf("URL = %#v; want a path and nothing else", r.URL)
				}
			})
		})
	}
	t.Run("a mux sees the segments that were meant", func(t *testing.T) {
		mux := http.NewServeMux()
		var got string
		mux.HandleFunc("GET /event-hooks/{id}", func(_ http.ResponseWriter, r *http.Request) { got = r.PathValue("id") })
		if _, err := lambdaevent.HTTP(mux)(t.Context(), request("GET", "/event-hooks/50% off?")); err != nil {
			t.Fatal(err)
		}
		if got != "50% off?" {
			t.Errorf("id = %q; want %q", got, "50% off?")
		}
	})
}

func TestHTTP_response(t *testing.T) {
	get := request("GET", "/")
	t.Run("a handler that writes nothing answers 200", func(t *testing.T) {
		resp := call(t, get, func(http.ResponseWriter, *http.Request) {})
		if resp.StatusCode != 200 || resp.Body != "" || resp.IsBase64Encoded {
			t.Errorf("answer = %+v; want an empty 200", resp)
		}
	})
	t.Run("the first status counts, headers set after it do not", func(t *testing.T) {
		resp := call(t, get, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Before", "1")
			w.WriteHeader(http.StatusTeapot)
			w.WriteHeader(http.StatusOK)
			w.Header().Set("X-After", "1")
			w.Header().Set("X-Before", "2")
		})
		if resp.StatusCode != http.StatusTeapot || resp.Headers["X-Before"] != "1" || resp.Headers["X-After"] != "" {
			t.Errorf("answer = %+v; want 418 with the headers from before", resp)
		}
	})
	t.Run("an informational status is left out", func(t *testing.T) {
		resp := call(t, get, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(http.StatusCreated)
		})
		if resp.StatusCode != http.StatusCreated {
			t.Errorf("status = %d; want 201", resp.StatusCode)
		}
	})
	t.Run("headers that repeat are joined, cookies go their own way", func(t *testing.T) {
		resp := call(t, get, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Add("Vary", "Origin")
			w.Header().Add("Vary", "Accept")
			w.Header().Set("Last-Modified", "Sat, 21 Nov 2026 20:00:00 GMT")
			http.SetCookie(w, &http.Cookie{Name: "a", Value: "1"})
			http.SetCookie(w, &http.Cookie{Name: "b", Value: "2", Expires: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)})
			w.Header().Set("Content-Length", "0")
		})
		want := map[string]string{"Vary": "Origin, Accept", "Last-Modified": "Sat, 21 Nov 2026 20:00:00 GMT"}
		if diff := cmp.Diff(want, resp.Headers); diff != "" {
			t.Errorf("headers (-want +got):\n%s", diff)
		}
		if want := []string{"a=1", "b=2; Expires=Wed, 02 Jan 2030 03:04:05 GMT"}; !slices.Equal(resp.Cookies, want) {
			t.Errorf("cookies = %q; want %q", resp.Cookies, want)
		}
	})
	t.Run("text is text, anything else is encoded", func(t *testing.T) {
		for _, tt := range []struct {
			body, encoding string
			encoded        bool
		}{
			{`{"a":"ü"}`, "", false},
			{"\xff\xfe", "", true},
			{"gzipped", "gzip", true},
		} {
			resp := call(t, get, func(w http.ResponseWriter, _ *http.Request) {
				if tt.encoding != "" {
					w.Header().Set("Content-Encoding", tt.encoding)
				}
				_, _ = io.WriteString(w, tt.body)
			})
			want := tt.body
			if tt.encoded {
				want = base64.StdEncoding.EncodeToString([]byte(tt.body))
			}
			if resp.Body != want || resp.IsBase64Encoded != tt.encoded {
				t.Errorf("body %q = %q, encoded %v; want %q, %v", tt.body, resp.Body, resp.IsBase64Encoded, want, tt.encoded)
			}
		}
	})
	t.Run("a content type is found as net/http finds it", func(t *testing.T) {
		resp := call(t, get, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") })
		if got := resp.Headers["Content-Type"]; got != "text/html; charset=utf-8" {
			t.Errorf("Content-Type = %q; want text/html", got)
		}
	})
	t.Run("204 and HEAD have no body", func(t *testing.T) {
		resp := call(t, get, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusNoContent)
			if _, err := io.WriteString(w, "x"); !errors.Is(err, http.ErrBodyNotAllowed) {
				t.Errorf("Write = %v; want %v", err, http.ErrBodyNotAllowed)
			}
		})
		if resp.StatusCode != 204 || resp.Body != "" {
			t.Errorf("answer = %+v; want an empty 204", resp)
		}
		resp = call(t, request("HEAD", "/"), func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "x") })
		if resp.StatusCode != 200 || resp.Body != "" || resp.Headers["Content-Type"] == "" {
			t.Errorf("answer to HEAD = %+v; want the headers only", resp)
		}
	})
	t.Run("a large number survives the way through Lambda", func(t *testing.T) {
		const body = `{"n":12345678901234567890}`
		resp := call(t, get, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) })
		raw, err := json.Marshal(resp)
		if err != nil {
			t.Fatal(err)
		}
		var back events.APIGatewayV2HTTPResponse
		if err := json.Unmarshal(raw, &back); err != nil || back.Body != body {
			t.Errorf("body = %q, %v; want %q", back.Body, err, body)
		}
	})
}

func TestHTTP_panic(t *testing.T) {
	var log bytes.Buffer
	old := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	t.Cleanup(func() { slog.SetDefault(old) })

	for name, p := range map[string]func(){
		"of the runtime":             func() { var none []int; _ = none[len(none)] },
		"of the handler":             func() { panic("token eh_secret") },
		"that aborts":                func() { panic(http.ErrAbortHandler) },
		"by a status that is no one": nil,
	} {
		t.Run("a panic "+name+" is a 500 with a JSON body", func(t *testing.T) {
			log.Reset()
			resp := call(t, request("GET", "/"), func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("X-Secret", "s")
				_, _ = io.WriteString(w, "half an answer")
				if p == nil {
					w.WriteHeader(1)
				}
				p()
			})
			want := events.APIGatewayV2HTTPResponse{
				StatusCode: 500,
				Headers:    map[string]string{"Content-Type": "application/json; charset=utf-8"},
				Body:       `{"message":"An unexpected error occurred"}`,
			}
			if diff := cmp.Diff(want, resp); diff != "" {
				t.Errorf("answer (-want +got):\n%s", diff)
			}
			if !strings.Contains(log.String(), "http_test.go") {
				t.Errorf("log does not say where: %s", log.String())
			}
			if strings.Contains(log.String(), "eh_secret") {
				t.Errorf("log tells the panic's value: %s", log.String())
			}
		})
	}
}

// readSample returns a file of events/.
func readSample(t *testing.T, name string) json.RawMessage {
	t.Helper()
	raw, err := os.ReadFile("../../events/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestFront(t *testing.T) {
	// front serves h through both adapters, over real HTTP.
	front := func(t *testing.T, h http.HandlerFunc) *httptest.Server {
		t.Helper()
		s := httptest.NewServer(lambdaevent.Front(func(ctx context.Context, ev events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error) {
			// Through JSON, as Lambda does it.
			raw, err := json.Marshal(ev)
			if err != nil {
				return events.APIGatewayV2HTTPResponse{}, err
			}
			var there events.APIGatewayV2HTTPRequest
			if err := json.Unmarshal(raw, &there); err != nil {
				return events.APIGatewayV2HTTPResponse{}, err
			}
			return lambdaevent.HTTP(h)(ctx, there)
		}, 0))
		t.Cleanup(s.Close)
		return s
	}
	do := func(t *testing.T, r *http.Request) (*http.Response, string) {
		t.Helper()
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, string(b)
	}

	t.Run("a request arrives as it was sent", func(t *testing.T) {
		var got *http.Request
		var body string
		s := front(t, func(_ http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			got, body = r, string(b)
		})
		for _, sent := range []struct{ kind, body string }{
			{"application/json", `{"a":"ü","n":12345678901234567890}`},
			{"application/json", "\xff not text"},
			{"application/x-www-form-urlencoded", "a=1&b=2"},
			{"", "\x00\x01\xff"},
		} {
			r, err := http.NewRequestWithContext(t.Context(), "PUT", s.URL+"/a%2520b/%3Fc%23?x=1&x=2&y=%26", strings.NewReader(sent.body))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", sent.kind)
			r.Header.Set("Webhook-Signature", "v1,abc v1,def")
			r.Header.Set("Authorization", "Bearer eh_x")
			r.Header.Add("X-Twice", "1")
			r.Header.Add("X-Twice", "2")
			r.Header.Set("Cookie", "a=1; b=2")
			do(t, r)
			if got.Method != "PUT" || got.URL.Path != "/a%20b/?c#" || got.URL.RawQuery != "x=1&x=2&y=%26" || body != sent.body {
				t.Errorf("arrived: %s %q ? %q, body %q; want PUT, /a%%20b/?c#, the query, %q", got.Method, got.URL.Path, got.URL.RawQuery, body, sent.body)
			}
			if got.ContentLength != int64(len(sent.body)) {
				t.Errorf("length = %d; want %d", got.ContentLength, len(sent.body))
			}
			for name, want := range map[string]string{
				"Webhook-Signature": "v1,abc v1,def", "Authorization": "Bearer eh_x", "X-Twice": "1,2", "Cookie": "a=1; b=2",
				"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "http",
			} {
				if g := got.Header.Get(name); g != want {
					t.Errorf("header %s = %q; want %q", name, g, want)
				}
			}
			if "http://"+got.Host != s.URL {
				t.Errorf("host = %q; want that of %s", got.Host, s.URL)
			}
		}
	})
	t.Run("an answer leaves as it was written", func(t *testing.T) {
		s := front(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/octet-stream")
			w.Header().Add("Vary", "A")
			w.Header().Add("Vary", "B")
			http.SetCookie(w, &http.Cookie{Name: "a", Value: "1"})
			http.SetCookie(w, &http.Cookie{Name: "b", Value: "2"})
			w.WriteHeader(http.StatusCreated)
			_, _ = io.WriteString(w, "\xff\x00"+r.Method)
		})
		r, err := http.NewRequestWithContext(t.Context(), "GET", s.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, body := do(t, r)
		if resp.StatusCode != 201 || body != "\xff\x00GET" {
			t.Errorf("answer = %d %q; want 201 and the bytes", resp.StatusCode, body)
		}
		if got := resp.Header.Get("Vary"); got != "A, B" {
			t.Errorf("Vary = %q; want A, B", got)
		}
		if got := resp.Header.Values("Set-Cookie"); !slices.Equal(got, []string{"a=1", "b=2"}) {
			t.Errorf("Set-Cookie = %q; want two", got)
		}
		r.Method = "HEAD"
		if resp, body := do(t, r); resp.StatusCode != 201 || body != "" {
			t.Errorf("answer to HEAD = %d %q; want 201 and no body", resp.StatusCode, body)
		}
	})
	t.Run("a body over the limit is a 413 and invokes nothing", func(t *testing.T) {
		s := front(t, func(http.ResponseWriter, *http.Request) { t.Error("invoked") })
		for _, body := range []io.Reader{
			strings.NewReader(strings.Repeat("x", lambdaevent.MaxBody+1)),         // API Gateway's own limit
			bytes.NewReader(make([]byte, 5<<20)),                                  // 6.7 MB once encoded
			strings.NewReader(`"` + strings.Repeat(`\"`, lambdaevent.MaxEvent/4)), // text that doubles as JSON
		} {
			r, err := http.NewRequestWithContext(t.Context(), "POST", s.URL, body)
			if err != nil {
				t.Fatal(err)
			}
			if _, ok := body.(*strings.Reader); ok {
				r.Header.Set("Content-Type", "text/plain")
			}
			resp, text := do(t, r)
			if resp.StatusCode != 413 || !json.Valid([]byte(text)) {
				t.Errorf("answer = %d %q; want a 413 with JSON", resp.StatusCode, text)
			}
		}
	})
	t.Run("a failed function is a 500, one out of time a 503, and neither says why", func(t *testing.T) {
		old := slog.Default()
		slog.SetDefault(slog.New(slog.DiscardHandler))
		t.Cleanup(func() { slog.SetDefault(old) })
		for err, want := range map[error]int{errors.New("table eh_secret"): 500, context.DeadlineExceeded: 503} {
			h := lambdaevent.Front(func(context.Context, events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error) {
				return events.APIGatewayV2HTTPResponse{}, err
			}, 0)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/", nil))
			if w.Code != want || !json.Valid(w.Body.Bytes()) || strings.Contains(w.Body.String(), "secret") {
				t.Errorf("answer to %v = %d %s; want %d and JSON", err, w.Code, w.Body, want)
			}
		}
	})
	t.Run("a function has 30 seconds", func(t *testing.T) {
		h := lambdaevent.Front(func(ctx context.Context, _ events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error) {
			end, ok := ctx.Deadline()
			if left := time.Until(end); !ok || left > lambdaevent.GatewayTimeout || left < lambdaevent.GatewayTimeout/2 {
				t.Errorf("time left = %v, %v; want %v", left, ok, lambdaevent.GatewayTimeout)
			}
			return events.APIGatewayV2HTTPResponse{}, nil
		}, 0)
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), "GET", "/", nil))
	})
	t.Run("its event has every key of API Gateway's own", func(t *testing.T) {
		var sample events.APIGatewayV2HTTPRequest
		if err := json.Unmarshal(readSample(t, "ingest-post.json"), &sample); err != nil {
			t.Fatal(err)
		}
		var ev events.APIGatewayV2HTTPRequest
		h := lambdaevent.Front(func(_ context.Context, got events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error) {
			ev = got
			return events.APIGatewayV2HTTPResponse{}, nil
		}, 0)
		r := httptest.NewRequestWithContext(t.Context(), "POST", "/events", strings.NewReader(sample.Body))
		r.Header.Set("Content-Type", "application/json")
		h.ServeHTTP(httptest.NewRecorder(), r)
		if ev.Version != sample.Version || ev.RawPath != sample.RawPath || ev.Body != sample.Body || ev.IsBase64Encoded != sample.IsBase64Encoded ||
			ev.RequestContext.HTTP.Method != sample.RequestContext.HTTP.Method || ev.RequestContext.RequestID == "" || ev.RequestContext.TimeEpoch == 0 {
			t.Errorf("event = %+v; want one like %+v", ev, sample)
		}
	})
}
