package awscall_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"eventhooks/internal/awscall"
)

const (
	keyID = "AKID"
	key   = "secret/key"
	token = "session token"
)

// client is AWS, as the requests of a test find it.
type client func(*http.Request) (*http.Response, error)

func (c client) Do(r *http.Request) (*http.Response, error) { return c(r) }

func config(c aws.HTTPClient) aws.Config {
	return aws.Config{
		Region: "eu-central-1", HTTPClient: c,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: keyID, SecretAccessKey: key, SessionToken: token}, nil
		}),
	}
}

// answer is an answer with a body, of an error by its header where kind is one.
func answer(status int, kind, body string) *http.Response {
	h := http.Header{}
	if kind != "" {
		h.Set("X-Amzn-Errortype", kind)
	}
	return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body))}
}

var request = awscall.Request{
	Path: "/", Header: map[string]string{"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "TrentService.Decrypt"},
	Body: []byte(`{"a":1}`), Want: http.StatusOK,
}

func TestService_Do(t *testing.T) {
	t.Run("a request is signed, and its answer returned", func(t *testing.T) {
		requests := 0
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			requests++
			body, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			if r.Method != http.MethodPost || r.URL.Path != "/" || r.Header.Get("X-Amz-Target") != "TrentService.Decrypt" || string(body) != `{"a":1}` {
				t.Errorf("request = %s %s %v %s; want the one that was made", r.Method, r.URL, r.Header, body)
			}
			if r.Header.Get("X-Amz-Security-Token") != token {
				t.Errorf("security token = %q; want that of the credentials", r.Header.Get("X-Amz-Security-Token"))
			}
			if fault := forged(r, body); fault != "" {
				t.Error(fault)
			}
			fmt.Fprint(w, "the answer")
		}))
		defer s.Close()
		for _, endpoint := range []string{s.URL, s.URL + "/"} {
			c := config(s.Client())
			c.BaseEndpoint = &endpoint
			if got, err := awscall.New(c, "amazonaws.com", "kms").Do(t.Context(), request); err != nil || string(got) != "the answer" {
				t.Errorf("Do at %s = %s, %v; want the answer", endpoint, got, err)
			}
		}
		if requests != 2 {
			t.Errorf("%d requests; want one each", requests)
		}
	})
	t.Run("the endpoint is the region's, whatever its partition", func(t *testing.T) {
		for _, suffix := range []string{"amazonaws.com", "amazonaws.com.cn"} {
			c := client(func(r *http.Request) (*http.Response, error) {
				if want := "https://kms.eu-central-1." + suffix; r.URL.Scheme+"://"+r.URL.Host != want || r.Host != r.URL.Host {
					t.Errorf("asked %s://%s as %q; want %s", r.URL.Scheme, r.URL.Host, r.Host, want)
				}
				return answer(http.StatusOK, "", ""), nil
			})
			if _, err := awscall.New(config(c), suffix, "kms").Do(t.Context(), request); err != nil {
				t.Error(err)
			}
		}
	})
	t.Run("an answer is read to a bound", func(t *testing.T) {
		const bound = 16 << 10
		body := &endless{}
		c := client(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: body}, nil
		})
		got, err := awscall.New(config(c), "amazonaws.com", "kms").Do(t.Context(), request)
		if err != nil || len(got) != bound || body.read > bound {
			t.Errorf("Do = %d bytes of %d read, %v; want %d", len(got), body.read, err, bound)
		}
		if !body.closed {
			t.Error("the body was not closed")
		}
	})
}

// endless is a body without an end.
type endless struct {
	read   int
	closed bool
}

func (e *endless) Read(p []byte) (int, error) { e.read += len(p); return len(p), nil }
func (e *endless) Close() error               { e.closed = true; return nil }

func TestRefusal(t *testing.T) {
	long := "x" + strings.Repeat("é", 3000) // so that a bound in bytes falls into a character
	for _, tt := range []struct{ name, header, body, code, message string }{
		{"by the header", "NotFoundException", "", "NotFoundException", ""},
		{"by the header, with a URL", "NotFoundException:http://internal.amazon.com/coral/#x", "", "NotFoundException", ""},
		{"by the body", "", `{"__type":"NotFoundException","message":"no such key"}`, "NotFoundException", "no such key"},
		{"by the body, with a namespace", "", `{"__type":"com.amazonaws.kms#NotFoundException","Message":"no such key"}`, "NotFoundException", "no such key"},
		{"by nothing", "", "<html>", "", ""},
		{"by another shape", "", `{"__type":1}`, "", ""},
		{"at length", "", `{"__type":"` + long + `","message":"` + long + `"}`, long[:299], long[:299]},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := client(func(*http.Request) (*http.Response, error) {
				return answer(http.StatusBadRequest, tt.header, tt.body), nil
			})
			_, err := awscall.New(config(c), "amazonaws.com", "kms").Do(t.Context(), request)
			r, ok := errors.AsType[*awscall.Refusal](err)
			if !ok || r.Service != "kms" || r.Status != 400 || r.Code != tt.code || r.Message != tt.message {
				t.Fatalf("Do = %#v; want 400 of kms, %s, %s", err, tt.code, tt.message)
			}
			if text := err.Error(); !strings.Contains(text, "kms answers 400") || !strings.Contains(text, tt.code) || !strings.Contains(text, tt.message) {
				t.Errorf("error = %s; want all of it", text)
			}
		})
	}
}

// forged says what is wrong with a request's signature, "" if nothing is: by
// what AWS documents as signature version 4.
func forged(r *http.Request, body []byte) string {
	var scope, names, signature string
	fields := strings.Fields(strings.ReplaceAll(r.Header.Get("Authorization"), ",", " "))
	if len(fields) != 4 || fields[0] != "AWS4-HMAC-SHA256" {
		return fmt.Sprintf("authorization = %q", fields)
	}
	for i, prefix := range []string{"Credential=" + keyID + "/", "SignedHeaders=", "Signature="} {
		value, ok := strings.CutPrefix(fields[i+1], prefix)
		if !ok {
			return fmt.Sprintf("authorization has %q; want %s…", fields[i+1], prefix)
		}
		*[]*string{&scope, &names, &signature}[i] = value
	}
	date := r.Header.Get("X-Amz-Date")
	if at, err := time.Parse("20060102T150405Z", date); err != nil || time.Since(at).Abs() > time.Minute {
		return fmt.Sprintf("date = %q; want now", date)
	}
	if want := date[:8] + "/eu-central-1/kms/aws4_request"; scope != want {
		return fmt.Sprintf("scope = %q; want %q", scope, want)
	}
	var headers strings.Builder
	signed := strings.Split(names, ";")
	for _, name := range signed {
		value := r.Header.Get(name)
		switch name {
		case "host":
			value = r.Host
		case "content-length":
			value = fmt.Sprint(r.ContentLength)
		}
		fmt.Fprintf(&headers, "%s:%s\n", name, value)
	}
	for _, name := range []string{"host", "x-amz-date", "x-amz-target", "x-amz-security-token"} {
		if !slices.Contains(signed, name) {
			return name + " is not signed"
		}
	}
	sum := func(s string) string { h := sha256.Sum256([]byte(s)); return hex.EncodeToString(h[:]) }
	mac := func(key []byte, s string) []byte {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(s))
		return h.Sum(nil)
	}
	request := strings.Join([]string{r.Method, r.URL.EscapedPath(), r.URL.RawQuery, headers.String(), names, sum(string(body))}, "\n")
	k := []byte("AWS4" + key)
	for part := range strings.SplitSeq(scope, "/") {
		k = mac(k, part)
	}
	if want := hex.EncodeToString(mac(k, strings.Join([]string{"AWS4-HMAC-SHA256", date, scope, sum(request)}, "\n"))); signature != want {
		return fmt.Sprintf("signature = %s; want %s of\n%s", signature, want, request)
	}
	return ""
}

func TestService_Do_triesAgain(t *testing.T) {
	// do makes a request that is answered as told, and says how many that took.
	do := func(ctx context.Context, c client) (requests int, err error) {
		s := awscall.New(config(client(func(r *http.Request) (*http.Response, error) {
			requests++
			if body, err := io.ReadAll(r.Body); err != nil || string(body) != `{"a":1}` {
				return nil, fmt.Errorf("request %d has body %q, %w", requests, body, err)
			}
			return c(r)
		})), "amazonaws.com", "kms")
		_, err = s.Do(ctx, request)
		return requests, err
	}
	const tries = 3
	t.Run("after what may pass, and after nothing else", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			for status := 100; status < 600; status++ {
				want, fails := 1, true
				switch status {
				case http.StatusOK:
					fails = false
				case 500, 502, 503, 504:
					want = tries
				}
				n, err := do(t.Context(), func(*http.Request) (*http.Response, error) { return answer(status, "", ""), nil })
				if n != want || (err != nil) != fails {
					t.Errorf("status %d: %d requests, %v; want %d, an error: %v", status, n, err, want, fails)
				}
				if err != nil && !strings.Contains(err.Error(), fmt.Sprint(status)) {
					t.Errorf("status %d: %v; want it named", status, err)
				}
			}
		})
	})
	t.Run("when it is throttled, but not when it may not", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			for kind, want := range map[string]int{
				"TooManyRequestsException": tries,
				"TooManyRequestsException:http://internal.amazon.com/coral/com.amazonaws.lambda/": tries,
				"AccessDeniedException": 1, "ResourceNotFoundException": 1, "": 1,
			} {
				n, err := do(t.Context(), func(*http.Request) (*http.Response, error) { return answer(http.StatusTooManyRequests, kind, ""), nil })
				if n != want || err == nil {
					t.Errorf("%q: %d requests, %v; want %d and an error", kind, n, err, want)
				}
			}
		})
	})
	t.Run("when KMS says so in its body", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			for kind, want := range map[string]int{
				"ThrottlingException": tries, "LimitExceededException": tries, "AccessDeniedException": 1, "IncorrectKeyException": 1, "KMSInvalidStateException": 1,
			} {
				n, err := do(t.Context(), func(*http.Request) (*http.Response, error) {
					return answer(http.StatusBadRequest, "", `{"__type":"`+kind+`","message":"no"}`), nil
				})
				if n != want || err == nil || !strings.Contains(err.Error(), kind) {
					t.Errorf("%q: %d requests, %v; want %d and an error that names it", kind, n, err, want)
				}
			}
		})
	})
	t.Run("until it is taken", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			left := []int{503, 500, 200}
			n, err := do(t.Context(), func(*http.Request) (*http.Response, error) {
				status := left[0]
				left = left[1:]
				return answer(status, "", ""), nil
			})
			if n != 3 || err != nil {
				t.Errorf("%d requests, %v; want three and no error", n, err)
			}
		})
	})
	t.Run("after silence, which each request waits for 5 s", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			n, err := do(t.Context(), func(r *http.Request) (*http.Response, error) {
				<-r.Context().Done()
				return nil, r.Context().Err()
			})
			if took := time.Since(began); n != tries || !errors.Is(err, context.DeadlineExceeded) || took < 15*time.Second || took > 60*time.Second {
				t.Errorf("%d requests in %v, %v; want three of 5 s, and that they took too long", n, took, err)
			}
		})
	})
	t.Run("no longer than it is asked to", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			n, err := do(ctx, func(*http.Request) (*http.Response, error) {
				cancel()
				return answer(http.StatusServiceUnavailable, "", ""), nil
			})
			if n != 1 || err == nil {
				t.Errorf("%d requests, %v; want one, and its error", n, err)
			}
		})
	})
}
