package redact

import (
	"bytes"
	"strings"
	"unicode"
)

// set makes a lookup of the words of s.
func set(s string) map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(s) {
		m[w] = true
	}
	return m
}

// Header names that always carry a secret, in lower case.
var secretFields = set(`
	authorization proxy-authorization x-api-key api-key x-goog-api-key x-goog-iam-authorization-token
	cookie cookie2 x-amz-security-token ocp-apim-subscription-key x-functions-key x-auth-token x-access-token
	x-session-token x-csrf-token x-xsrf-token private-token job-token x-gitlab-token x-github-token x-vault-token
	x-shopify-access-token dpop x-hub-signature x-hub-signature-256 x-api-secret x-client-secret x-consumer-key
	set-cookie set-cookie2 authentication-info proxy-authentication-info x-subject-token`)

// Header names whose value is a URL, or holds some.
var urlFields = set(`referer origin location content-location link refresh x-original-url x-forwarded-uri`)

// Words that make an unknown header name suspicious.
var secretWords = set(`
	auth authorization token secret password passwd apikey session signature credential cookie jwt assertion`)

// Names that look so and are not.
var plainFields = set(`idempotency-key sec-websocket-key sec-websocket-accept anthropic-beta www-authenticate
	access-control-allow-credentials`)

// Header names that identify a person or an account.
var personalFields = set(`
	openai-organization openai-project anthropic-organization-id anthropic-workspace-id chatgpt-account-id
	x-goog-user-project x-forwarded-for`)

// Header names that are believed when they stand in text.
var fieldsInText = set(`
	authorization proxy-authorization x-api-key api-key x-goog-api-key ocp-apim-subscription-key x-auth-token
	x-access-token x-amz-security-token private-token job-token x-vault-token`)

// Schemes of RFC 9110 section 11 that stay when their credentials go.
var schemes = set(`
	bearer basic digest negotiate ntlm dpop token apikey key bot oauth hoba mutual vapid gnap hawk mac ssws
	privatetoken signature googlelogin aws4-hmac-sha256 aws4-ecdsa-p256-sha256 scram-sha-1 scram-sha-256`)

// JSON keys, form keys and query keys are compared in lower case without '-'
// and '_'.
var secretKeys = set(`
	accesstoken refreshtoken idtoken sessiontoken authtoken tokensecret bearertoken authorizationtoken authorization
	clientsecret clientassertion assertion apikey apisecret secretkey secretaccesskey awssecretaccesskey
	awssessiontoken sessionkey password passwd passphrase privatekey credential credentials xapikey webhooksecret
	signingsecret otp mfacode connectionstring fallbackcredittoken codeverifier`)

// JSON keys that name a credential in one place and a word or a page of results
// in another: their value must look like one.
var suspectKeys = set(`token secret jwt pat`)

// minCredential is the length from which the value of such a key looks like one.
const minCredential = 16

// isCredential reports whether v, the value of a suspect key, looks like a
// credential: long, of one word, of letters and digits.
func isCredential(v []byte) bool {
	return len(v) >= minCredential && (wordDash | base64Body | equals | dot).all(v) &&
		bytes.ContainsAny(v, "0123456789") && bytes.ContainsFunc(v, unicode.IsLetter)
}

var queryKeys = set(`
	key apikey accesstoken refreshtoken idtoken token auth sig signature code codeverifier clientsecret
	clientassertion assertion subjecttoken password passwd pwd secret sessionid session xamzsignature xamzcredential
	xamzsecuritytoken xgoogsignature xgoogcredential samlrequest samlresponse devicecode`)

// In text only what cannot be mistaken.
var queryKeysInText = set(`
	key apikey accesstoken refreshtoken idtoken token auth sig signature clientsecret password secret codeverifier
	xamzsignature xamzcredential xamzsecuritytoken xgoogsignature`)

var formKeys = set(`
	accesstoken refreshtoken idtoken clientsecret clientassertion assertion subjecttoken password code codeverifier
	apikey secret`)

// Keys that are secret in the body of a token request (RFC 6749 section 4),
// which its grant_type gives away.
var grantKeys = set(`code devicecode subjecttoken actortoken state`)

var wireGuardKeys = set(`privatekey presharedkey localstaticprivatekey localephemeralprivatekey`)

// Keys of opaque model state, which replay needs: no credentials.
var opaqueKeys = set(`signature thoughtsignature encryptedcontent data reasoningopaque`)

// simplify writes name in lower case without '-' and '_' into buf and returns
// it, nil if it is too long to be any of ours.
func simplify(buf *[40]byte, name []byte) []byte {
	n := 0
	for _, c := range name {
		if c == '-' || c == '_' {
			continue
		}
		if n == len(buf) {
			return nil
		}
		buf[n] = lower(c)
		n++
	}
	return buf[:n]
}

func in(m map[string]bool, name []byte) bool {
	var buf [40]byte
	return m[string(simplify(&buf, name))]
}

func isSecretKey(name []byte) bool      { return in(secretKeys, name) }
func isQueryKey(name []byte) bool       { return in(queryKeys, name) }
func isQueryKeyInText(name []byte) bool { return in(queryKeysInText, name) }
func isFormKey(name []byte) bool        { return in(formKeys, name) }
func isWireGuardKey(name []byte) bool   { return in(wireGuardKeys, name) }
func isAuthKey(name []byte) bool        { return in(authKeys, name) }

var authKeys = set(`authorization proxyauthorization`)

func isFieldInText(name []byte) bool { return inFold(fieldsInText, name) }

// inFold looks up name in lower case.
func inFold(m map[string]bool, name []byte) bool {
	var buf [40]byte
	if len(name) > len(buf) {
		return false
	}
	for i, c := range name {
		buf[i] = lower(c)
	}
	return m[string(buf[:len(name)])]
}

// isVariable reports whether name is that of an environment variable that
// holds a secret.
func isVariable(name []byte) bool {
	for _, c := range name {
		if !(upLetter | digit | underscore).has(c) {
			return false
		}
	}
	for _, s := range []string{
		"API_KEY", "APIKEY", "_TOKEN", "SECRET", "PASSWORD", "PASSWD", "SECRET_KEY", "ACCESS_KEY", "PRIVATE_KEY", "_CREDENTIALS", "PASSPHRASE",
	} {
		if hasSuffix(name, s) {
			return !hasSuffix(name, "PAGE_TOKEN")
		}
	}
	return false
}

// fieldClass says what is done with a header field.
type fieldClass uint8

const (
	fieldText     fieldClass = iota // patterns
	fieldURL                        // patterns, and query keys
	fieldSecret                     // the value goes
	fieldSuspect                    // the value goes, unless it is an identifier
	fieldAuth                       // the value goes, its scheme stays
	fieldCookie                     // the values go, names stay
	fieldSet                        // Set-Cookie
	fieldHost                       // patterns, and a user and password
	fieldProtocol                   // Sec-WebSocket-Protocol
	fieldPersonal
)

// classify says what is done with the header field of that name.
func classify(name string) fieldClass {
	name = strings.ToLower(name)
	switch name {
	case "authorization", "proxy-authorization":
		return fieldAuth
	case "cookie", "cookie2":
		return fieldCookie
	case "set-cookie", "set-cookie2":
		return fieldSet
	case "sec-websocket-protocol":
		return fieldProtocol
	case "host", ":authority":
		return fieldHost
	}
	switch {
	case secretFields[name]:
		return fieldSecret
	case urlFields[name]:
		return fieldURL
	case personalFields[name]:
		return fieldPersonal
	case plainFields[name], strings.HasPrefix(name, "x-stainless-"), strings.HasPrefix(name, "content-"),
		strings.HasSuffix(name, "-token-count"), strings.Contains(name, "-ratelimit-"):
		return fieldText
	case isSecretName(name):
		return fieldSuspect
	}
	return fieldText
}

// isSecretName reports whether one word of name is suspicious.
func isSecretName(name string) bool {
	last := ""
	for w := range strings.FieldsFuncSeq(name, func(r rune) bool { return r == '-' || r == '_' }) {
		if secretWords[w] || last == "api" && w == "key" {
			return true
		}
		last = w
	}
	return false
}

// isID reports whether the value of a suspicious field is an identifier and
// no secret: a UUID (RFC 9562) that is called an id, or a short number.
func isID(name, v string) bool {
	if len(v) <= 10 && digit.all([]byte(v)) {
		return true
	}
	if name = strings.ToLower(name); len(v) != 36 || !strings.HasSuffix(name, "id") {
		return false
	}
	for i := range len(v) {
		if i == 8 || i == 13 || i == 18 || i == 23 {
			if v[i] != '-' {
				return false
			}
		} else if !isHex(v[i]) {
			return false
		}
	}
	return true
}

// schemeLen returns the length of the authentication scheme that v begins
// with, with the space after it; 0 if it begins with none.
func schemeLen(v []byte) int {
	var buf [24]byte
	for i, c := range v {
		if c == ' ' {
			if !schemes[string(buf[:i])] {
				return 0
			}
			for i < len(v) && v[i] == ' ' {
				i++
			}
			return i
		}
		if i == len(buf) {
			return 0
		}
		buf[i] = lower(c)
	}
	return 0
}
