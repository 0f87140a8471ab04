package selfinvoke_test

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

	"eventhooks/internal/hook"
	"eventhooks/internal/selfinvoke"
)

const (
	keyID = "AKID"
	key   = "secret/key"
	token = "session token"
)

// client is Lambda, as the requests of a test find it.
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

// answer is an answer without a body.
func answer(status int, kind string) *http.Response {
	h := http.Header{}
	if kind != "" {
		h.Set("X-Amzn-Errortype", kind)
	}
	return &http.Response{StatusCode: status, Header: h, Body: http.NoBody}
}

var part = hook.UpstreamRange{From: "0a", To: "0b"}

func TestFunction_Invoke(t *testing.T) {
	t.Run("the function is invoked asynchronously, by a signed request", func(t *testing.T) {
		requests := 0
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			requests++
			body, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			if r.Method != http.MethodPost || r.URL.Path != "/2015-03-31/functions/probe-1/invocations" || r.Header.Get("X-Amz-Invocation-Type") != "Event" {
				t.Errorf("request = %s %s %v; want an asynchronous invocation of probe-1", r.Method, r.URL.Path, r.Header)
			}
			if string(body) != `{"from":"0a","to":"0b"}` {
				t.Errorf("event = %s; want the part", body)
			}
			if r.Header.Get("X-Amz-Security-Token") != token {
				t.Errorf("security token = %q; want that of the credentials", r.Header.Get("X-Amz-Security-Token"))
			}
			if fault := forged(r, body); fault != "" {
				t.Error(fault)
			}
			w.WriteHeader(http.StatusAccepted)
		}))
		defer s.Close()
		for _, endpoint := range []string{s.URL, s.URL + "/"} {
			c := config(s.Client())
			c.BaseEndpoint = &endpoint
			if err := selfinvoke.New(c, "amazonaws.com", "probe-1").Invoke(t.Context(), part); err != nil {
				t.Errorf("Invoke at %s = %v; want none", endpoint, err)
			}
		}
		if requests != 2 {
			t.Errorf("%d requests; want one each", requests)
		}
	})
	t.Run("the endpoint is the region's, whatever its partition", func(t *testing.T) {
		for _, suffix := range []string{"amazonaws.com", "amazonaws.com.cn"} {
			c := client(func(r *http.Request) (*http.Response, error) {
				if want := "https://lambda.eu-central-1." + suffix; r.URL.Scheme+"://"+r.URL.Host != want || r.Host != r.URL.Host {
					t.Errorf("asked %s://%s as %q; want %s", r.URL.Scheme, r.URL.Host, r.Host, want)
				}
				return answer(http.StatusAccepted, ""), nil
			})
			if err := selfinvoke.New(config(c), suffix, "probe").Invoke(t.Context(), part); err != nil {
				t.Error(err)
			}
		}
	})
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
	if want := date[:8] + "/eu-central-1/lambda/aws4_request"; scope != want {
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
	for _, name := range []string{"host", "x-amz-date", "x-amz-invocation-type", "x-amz-security-token"} {
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

func TestFunction_Invoke_triesAgain(t *testing.T) {
	// invoke invokes a function of which Lambda answers as told, and says how
	// many requests that took.
	invoke := func(ctx context.Context, c client) (requests int, err error) {
		f := selfinvoke.New(config(client(func(r *http.Request) (*http.Response, error) {
			requests++
			if body, err := io.ReadAll(r.Body); err != nil || string(body) != `{"from":"0a","to":"0b"}` {
				return nil, fmt.Errorf("request %d has body %q, %w", requests, body, err)
			}
			return c(r)
		})), "amazonaws.com", "probe")
		err = f.Invoke(ctx, part)
		return requests, err
	}
	const tries = 3
	t.Run("after what may pass, and after nothing else", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			for status := 100; status < 600; status++ {
				want, fails := 1, true
				switch status {
				case http.StatusAccepted:
					fails = false
				case 500, 502, 503, 504:
					want = tries
				}
				n, err := invoke(t.Context(), func(*http.Request) (*http.Response, error) { return answer(status, ""), nil })
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
				n, err := invoke(t.Context(), func(*http.Request) (*http.Response, error) { return answer(http.StatusTooManyRequests, kind), nil })
				if n != want || err == nil {
					t.Errorf("%q: %d requests, %v; want %d and an error", kind, n, err, want)
				}
			}
		})
	})
	t.Run("until it is taken", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			left := []int{503, 500, 202}
			n, err := invoke(t.Context(), func(*http.Request) (*http.Response, error) {
				status := left[0]
				left = left[1:]
				return answer(status, ""), nil
			})
			if n != 3 || err != nil {
				t.Errorf("%d requests, %v; want three and no error", n, err)
			}
		})
	})
	t.Run("after silence, which each request waits for 5 s", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			n, err := invoke(t.Context(), func(r *http.Request) (*http.Response, error) {
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
			n, err := invoke(ctx, func(*http.Request) (*http.Response, error) {
				cancel()
				return answer(http.StatusServiceUnavailable, ""), nil
			})
			if n != 1 || err == nil {
				t.Errorf("%d requests, %v; want one, and its error", n, err)
			}
		})
	})
}
