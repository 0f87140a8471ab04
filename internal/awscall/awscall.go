// Package awscall makes single requests to services of AWS whose own clients
// would make a function larger and start later than the one or two operations
// that it needs are worth (docs/decisions/0011).
//
// It signs with the SDK's signer, sends with the SDK's HTTP client, and tries
// again when the SDK would.
package awscall

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

const (
	// attemptTime bounds one request, its answer included.
	attemptTime = 5 * time.Second
	// maxAnswer is how much of an answer is read, in bytes; what is called here
	// answers with less.
	maxAnswer = 16 << 10
	// maxWords bounds each of a service's own words in an error, in bytes.
	maxWords = 300
)

// Service is one service of AWS. It is safe for concurrent use.
type Service struct {
	config aws.Config
	name   string
	base   string
	signer *v4.Signer
	retry  aws.Retryer
}

// New returns the service of that name, such as lambda, in the configuration's
// region. suffix is what the names of AWS's hosts end in there, such as
// amazonaws.com; it does not matter when the configuration has an endpoint.
func New(config aws.Config, suffix, name string) *Service {
	base := "https://" + name + "." + config.Region + "." + suffix
	if config.BaseEndpoint != nil {
		base = strings.TrimSuffix(*config.BaseEndpoint, "/")
	}
	return &Service{config: config, name: name, base: base, signer: v4.NewSigner(), retry: retry.NewStandard()}
}

// Request is one request: a POST.
type Request struct {
	Path   string // with its leading slash, escaped as in a URL
	Header map[string]string
	Body   []byte
	Want   int // the only status that is no error
}

// Do makes the request, up to three times of at most 5 s, with the SDK's pauses
// in between, and returns the answer's body. An error that the service answered
// with is a *Refusal. The service may have done what was asked for when there
// is an error, and twice when there is none.
func (s *Service) Do(ctx context.Context, r Request) ([]byte, error) {
	for attempt := 1; ; attempt++ {
		answer, err := s.once(ctx, r)
		if err == nil {
			return answer, nil
		}
		if attempt == s.retry.MaxAttempts() || !s.retry.IsErrorRetryable(err) {
			return nil, err
		}
		wait, werr := s.retry.RetryDelay(attempt, err)
		if werr != nil {
			return nil, err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, err
		}
	}
}

// once makes one request.
func (s *Service) once(ctx context.Context, r Request) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.base+r.Path, bytes.NewReader(r.Body))
	if err != nil {
		return nil, err
	}
	for name, value := range r.Header {
		req.Header.Set(name, value)
	}
	credentials, err := s.config.Credentials.Retrieve(ctx)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(r.Body)
	if err := s.signer.SignHTTP(ctx, credentials, req, hex.EncodeToString(sum[:]), s.name, s.config.Region, time.Now()); err != nil {
		return nil, err
	}
	resp, err := s.config.HTTPClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	// Read to its end where it is no longer than it should be, so that its
	// connection can serve the next request.
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if resp.StatusCode != r.Want {
		return nil, refusal(s.name, resp, body)
	}
	if err != nil {
		return nil, err
	}
	return body, nil
}

// Refusal is an answer that is not what was asked for. Its methods tell the
// SDK's retryer what it looks for.
type Refusal struct {
	Service string // "kms"
	Status  int
	Code    string // "ThrottlingException"; "" when it does not say
	Message string // the service's own words; "" when there are none
}

// refusal reads what AWS's JSON protocols say of an error: its code in a header
// or in the body, either with a namespace before or a URL behind it.
func refusal(service string, resp *http.Response, body []byte) *Refusal {
	var said struct {
		Type    string `json:"__type"`
		Message string // "message" or "Message"
	}
	_ = json.Unmarshal(body, &said) // it may be anything, and then says nothing
	code := resp.Header.Get("X-Amzn-Errortype")
	if code == "" {
		code = said.Type
	}
	code, _, _ = strings.Cut(code, ":")
	code = code[strings.LastIndex(code, "#")+1:]
	return &Refusal{service, resp.StatusCode, cut(code), cut(said.Message)}
}

func cut(s string) string {
	if len(s) > maxWords {
		return strings.ToValidUTF8(s[:maxWords], "")
	}
	return s
}

func (r *Refusal) Error() string {
	text := fmt.Sprintf("%s answers %d", r.Service, r.Status)
	if r.Code != "" {
		text += " " + r.Code
	}
	if r.Message != "" {
		text += ": " + r.Message
	}
	return text
}

// HTTPStatusCode returns the answer's status.
func (r *Refusal) HTTPStatusCode() int { return r.Status }

// ErrorCode returns what AWS calls the error.
func (r *Refusal) ErrorCode() string { return r.Code }
