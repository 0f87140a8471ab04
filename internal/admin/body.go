package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"

	"eventhooks/internal/schema"
	"eventhooks/internal/strictjson"
)

// maxBody bounds a request's body, in bytes.
const maxBody = 256 << 10

// The types of a body.
const (
	typeJSON      = "application/json"
	typeForm      = "application/x-www-form-urlencoded"
	typeMultipart = "multipart/form-data"
)

// document returns the request's body as a JSON object, which it is, strictly:
// a form is made one. No body is an empty object.
func (c *call) document(form schema.Form) ([]byte, error) {
	body, err := c.read()
	if err != nil {
		return nil, err
	}
	if len(body) == 0 {
		return []byte("{}"), nil
	}
	mediaType, params, err := mime.ParseMediaType(c.Header.Get("Content-Type"))
	if err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter) {
		mediaType = ""
	}
	switch mediaType {
	case typeJSON:
	case typeForm, typeMultipart:
		if body, err = formDocument(form, body, mediaType, params["boundary"]); err != nil {
			return nil, err
		}
	default:
		return nil, refuse(http.StatusUnsupportedMediaType, "Unsupported media type: send %s, %s or %s", typeJSON, typeForm, typeMultipart)
	}
	if _, err := strictjson.Object(body, strictjson.Limits{}); err != nil {
		return nil, unreadable(body, err)
	}
	return body, nil
}

// formDocument returns the document that a form stands for.
func formDocument(form schema.Form, body []byte, mediaType, boundary string) (doc []byte, err error) {
	if mediaType == typeForm {
		doc, err = form.JSON(string(body))
	} else {
		var values url.Values
		if values, err = parts(body, boundary); err == nil {
			doc, err = form.Values(values)
		}
	}
	if e, ok := errors.AsType[*schema.FormError](err); ok {
		return nil, refuse(http.StatusBadRequest, "Cannot parse form body: %s", e.Reason)
	}
	if err != nil {
		return nil, fmt.Errorf("read form: %w", err)
	}
	return doc, nil
}

// parts reads a body of multipart/form-data: the values of each name, in their
// order. A file's content is a value like any other, as Kong has it. The error
// is a *schema.FormError.
func parts(body []byte, boundary string) (url.Values, error) {
	wrong := func(format string, args ...any) (url.Values, error) {
		return nil, &schema.FormError{Reason: fmt.Sprintf(format, args...)}
	}
	if boundary == "" {
		return wrong("the Content-Type names no boundary")
	}
	values := url.Values{}
	r := multipart.NewReader(bytes.NewReader(body), boundary)
	for n := 1; ; n++ {
		part, err := r.NextRawPart() // raw: no encoding is taken off that nobody asked for
		switch {
		case errors.Is(err, io.EOF) && ends(body, boundary):
			return values, nil
		case !bytes.Contains(body, []byte("--"+boundary)):
			return wrong("no part begins with the boundary that the Content-Type names")
		case err != nil:
			return wrong("part %d of the multipart form is cut off or badly written", n)
		case n > schema.MaxFormValues:
			return wrong("a form has at most %d values", schema.MaxFormValues)
		case part.FormName() == "":
			return wrong(`part %d has no name: it needs Content-Disposition: form-data; name="..."`, n)
		case strings.HasPrefix(strings.ToLower(part.Header.Get("Content-Type")), "multipart/"):
			return wrong("part %d is a multipart body itself: give each of its parts a name of its own", n)
		}
		switch strings.ToLower(part.Header.Get("Content-Transfer-Encoding")) {
		case "", "7bit", "8bit", "binary":
		default:
			return wrong("part %d has a Content-Transfer-Encoding: send its bytes as they are", n)
		}
		value, err := io.ReadAll(part) // no more than the body
		if err != nil {
			return wrong("part %d of the multipart form is cut off or badly written", n)
		}
		values.Add(part.FormName(), string(value))
	}
}

// ends reports whether a multipart body has an end: the reader takes some that
// are cut off for whole.
func ends(body []byte, boundary string) bool {
	end := []byte("--" + boundary + "--")
	return bytes.HasPrefix(body, end) || bytes.Contains(body, append([]byte("\n"), end...))
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
