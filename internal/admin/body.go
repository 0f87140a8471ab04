package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"

	"eventhooks/internal/schema"
	"eventhooks/internal/strictjson"
)

// maxBody bounds a request's body, in bytes.
const maxBody = 256 << 10

// document returns the request's body as a JSON object, which it is, strictly:
// a form is made one. No body is an empty object.
func (c *call) document(form schema.Form) ([]byte, error) {
	body, err := c.read()
	if err != nil {
		return nil, err
	}
	mediaType, _, err := mime.ParseMediaType(c.Header.Get("Content-Type"))
	switch {
	case len(body) == 0:
		return []byte("{}"), nil
	case err == nil && mediaType == "application/json":
	case err == nil && mediaType == "application/x-www-form-urlencoded":
		doc, err := form.JSON(string(body))
		if e, ok := errors.AsType[*schema.FormError](err); ok {
			return nil, refuse(http.StatusBadRequest, "Cannot parse form body: %s", e.Reason)
		}
		if err != nil {
			return nil, fmt.Errorf("read form: %w", err)
		}
		body = doc
	default:
		return nil, refuse(http.StatusUnsupportedMediaType, "Unsupported media type: send application/json or application/x-www-form-urlencoded")
	}
	if _, err := strictjson.Object(body, strictjson.Limits{}); err != nil {
		return nil, unreadable(body, err)
	}
	return body, nil
}

// unreadable is Kong's answer to what is no JSON. What is JSON, and refused
// all the same, is told why.
func unreadable(body []byte, err error) error {
	if !json.Valid(body) {
		return refuse(http.StatusBadRequest, "Cannot parse JSON body")
	}
	return refuse(http.StatusBadRequest, "Cannot parse JSON body: %s", err.Error())
}

func (c *call) read() ([]byte, error) {
	tooLarge := refuse(http.StatusRequestEntityTooLarge, "the body is too large: at most %d bytes", maxBody)
	if c.ContentLength > maxBody {
		return nil, tooLarge
	}
	if c.Body == nil {
		return nil, nil
	}
	body, err := io.ReadAll(io.LimitReader(c.Body, maxBody+1))
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "the body could not be read")
	}
	if len(body) > maxBody {
		return nil, tooLarge
	}
	return body, nil
}
