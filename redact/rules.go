package redact

import "bytes"

// The kinds that stand in placeholders and are not the name of one pattern.
const (
	kindHeader   = "header"
	kindCookie   = "cookie"
	kindQuery    = "query"
	kindForm     = "form"
	kindJSON     = "json"
	kindEnv      = "env"
	kindArgv     = "argv"
	kindUserinfo = "userinfo"
	kindPersonal = "personal"
	kindBearer   = "bearer"
	kindJWT      = "jwt"
	kindPEM      = "private-key"
	kindSigV4    = "sigv4"
)

// A rule begins with a literal, which the prefilter looks for.
type rule struct {
	text  string
	fold  bool // ASCII case does not matter
	word  bool // nothing of a word may stand before it: \b
	value bool // the literal is no part of the secret and is never held back
	match func(s *scanner, i, j int)
}

// run is the rule "literal, then at least min bytes of c".
func run(slot int, kind string, c class, min int) func(s *scanner, i, j int) {
	return func(s *scanner, i, j int) { s.class(slot, i, j, c, min, kind) }
}

// Every class that is run over has a slot in which the scanner remembers how
// far the run goes, so that a text of nothing but beginnings costs no more
// than its length.
const (
	slotSK = iota
	slotAWSID
	slotAWSSecret
	slotBedrock
	slotBedrockKey
	slotWord
	slotGHS
	slotGitLab
	slotSlack
	slotSlackD
	slotHook
	slotDash
	slotDotted
	slotHex
	slotAlnum
	slotJWT // and four more, one for each part
	_
	_
	_
	_
	slotPEM
	slotAge
	slotProto
	slotBearer
	slotQuery
	slotForm
	slotEnv
	slotCredential
	slotAzure
	slots
)

var rules = func() []rule {
	rs := []rule{
		{text: "sk-", word: true, match: matchSK},
		{text: "-----BEGIN ", match: matchPEM},
		{text: "eyJ", word: true, match: matchJWT},
		{text: "A3T", word: true, match: matchAWSID},
		{text: "aws", fold: true, value: true, match: matchAWSSecret},
		{text: "bearer", fold: true, word: true, value: true, match: matchBearer},
		{text: "Q~", value: true, match: matchAzure},
		{text: "hooks.slack.com/", value: true, match: matchSlackHook},
		{text: "openai-insecure-api-key.", value: true, match: matchProtocol},
		{text: "ABSK", word: true, match: run(slotBedrock, "bedrock-key", base64Body|equals, 60)},
		{text: "bedrock-api-key-", word: true, match: run(slotBedrockKey, "bedrock-key", base64Body|equals|underscore|dash, 20)},
		{text: "github_pat_", word: true, match: run(slotWord, "github", word, 36)},
		{text: "ghs_", word: true, match: run(slotGHS, "github", wordDash|dot, 36)},
		{text: "xoxe.xoxb-", word: true, match: run(slotSlack, "slack", alnum|dash, 10)},
		{text: "xoxe.xoxp-", word: true, match: run(slotSlack, "slack", alnum|dash, 10)},
		{text: "xoxd-", word: true, match: run(slotSlackD, "slack", base64Body|equals|underscore|dash|percent, 20)},
		{text: "xapp-", word: true, match: run(slotSlack, "slack", alnum|dash, 10)},
		{text: "AIza", word: true, match: run(slotDash, "google-key", wordDash, 35)},
		{text: "AQ.", word: true, match: run(slotDash, "google-auth-key", wordDash, 21)},
		{text: "ya29.", word: true, match: run(slotDotted, "google-oauth", wordDash|dot, 20)},
		{text: "1//", word: true, match: run(slotDash, "google-refresh", wordDash, 20)},
		{text: "GOCSPX-", word: true, match: run(slotDash, "google-secret", wordDash, 28)},
		{text: "hf_", word: true, match: run(slotAlnum, "hf", alnum, 34)},
		{text: "api_org_", word: true, match: run(slotAlnum, "hf", alnum, 34)},
		{text: "gsk_", word: true, match: run(slotAlnum, "groq", alnum, 40)},
		{text: "xai-", word: true, match: run(slotWord, "xai", word, 60)},
		{text: "pplx-", word: true, match: run(slotAlnum, "pplx", alnum, 40)},
		{text: "lsv2_pt_", word: true, match: run(slotHex, "langsmith", hexLower|underscore, 43)},
		{text: "lsv2_sk_", word: true, match: run(slotHex, "langsmith", hexLower|underscore, 43)},
		{text: "npm_", word: true, match: run(slotAlnum, "npm", alnum, 36)},
		{text: "ek_", word: true, match: run(slotAlnum, "openai-ephemeral", alnum, 20)},
		{text: "AGE-SECRET-KEY-1", match: run(slotAge, "age", upLetter|digit, 58)},
	}
	for _, t := range []string{"AKIA", "ASIA", "ABIA", "ACCA"} {
		rs = append(rs, rule{text: t, word: true, match: matchAWSID})
	}
	for _, t := range []string{"ghp_", "gho_", "ghu_", "ghr_"} {
		rs = append(rs, rule{text: t, word: true, match: run(slotWord, "github", word, 36)})
	}
	for _, t := range []string{"glpat-", "glrt-", "gldt-", "glptt-", "gloas-"} {
		rs = append(rs, rule{text: t, word: true, match: run(slotGitLab, "gitlab", wordDash|dot, 20)})
	}
	for _, c := range "abceoprs" {
		rs = append(rs, rule{text: "xox" + string(c) + "-", word: true, match: run(slotSlack, "slack", alnum|dash, 10)})
	}
	for _, t := range []string{"sk_live_", "sk_test_", "sk_prod_", "rk_live_", "rk_test_", "rk_prod_"} {
		rs = append(rs, rule{text: t, word: true, match: run(slotAlnum, "stripe", alnum, 10)})
	}
	return rs
}()

// matchSK: the keys of Anthropic, of OpenAI and of the many that imitate it.
func matchSK(s *scanner, i, j int) {
	if j < len(s.b) && !alnum.has(s.b[j]) {
		return
	}
	kind := "openai"
	if rest := s.b[j:]; hasPrefix(rest, "ant-") {
		switch rest = rest[4:]; {
		case hasPrefix(rest, "oat"), hasPrefix(rest, "ort"):
			kind = "anthropic-oauth"
		case hasPrefix(rest, "sid"):
			kind = "anthropic-session"
		case hasPrefix(rest, "admin"):
			kind = "anthropic-admin"
		default:
			kind = "anthropic"
		}
	}
	s.class(slotSK, i, j, wordDash, 20, kind)
}

// matchAWSID: an access key id is 20 bytes and ends there.
func matchAWSID(s *scanner, i, j int) {
	e := s.run(slotAWSID, i, upLetter|digit)
	if e == len(s.b) && !s.final {
		if e-i <= 20 {
			s.more(i, "aws-id", upLetter|digit)
		}
		return
	}
	if e-i != 20 || e < len(s.b) && word.has(s.b[e]) {
		return
	}
	if s.b[i+1] != 'K' && !(upLetter | digit27).all(s.b[i+4:e]) {
		return
	}
	s.hit(i, e, "aws-id", upLetter|digit)
}

// matchAWSSecret: the secret key has no mark of its own, its name must tell.
func matchAWSSecret(s *scanner, _, j int) {
	j = s.skip(j, "_")
	if k := s.foldWord(j, "secret", "session"); k > 0 {
		j = k
	} else {
		return
	}
	j = s.skip(j, "_")
	if k := s.foldWord(j, "access"); k > 0 {
		j = s.skip(k, "_")
	}
	if j = s.foldWord(j, "key", "token"); j == 0 {
		return
	}
	k := j
	for k < len(s.b) && k-j < 8 && (quote | backslash | space | colon | equals | angle).has(s.b[k]) && s.b[k] != '<' {
		k++
	}
	if k > j {
		s.class(slotAWSSecret, k, k, base64Body|equals, 40, "aws-secret")
	}
}

// matchBearer: the value is the secret, the scheme word stays.
func matchBearer(s *scanner, _, j int) {
	k := j
	for k < len(s.b) && k-j < maxGap && space.has(s.b[k]) {
		k++
	}
	if k > j {
		s.class(slotBearer, k, k, bearerBody, 16, kindBearer)
	}
}

// matchAzure: a client secret has three bytes and a digit before its mark.
func matchAzure(s *scanner, i, j int) {
	body := wordDash | dot | tilde
	if i < 4 || !digit.has(s.b[i-1]) || !body.all(s.b[i-4:i-1]) || s.b[i-2] == '-' || s.b[i-3] == '-' || s.b[i-4] == '-' {
		return
	}
	s.class(slotAzure, i-4, j, body, 31, "azure-ad")
}

// matchProtocol: a browser's way to send a key when it opens a WebSocket.
func matchProtocol(s *scanner, _, j int) {
	s.param(j, slotProto, protoValue, "ws-protocol", 1)
}

// matchSlackHook: the host and the kind of hook stay.
func matchSlackHook(s *scanner, _, j int) {
	for _, w := range []string{"services/", "workflows/", "triggers/"} {
		if hasPrefix(s.b[j:], w) {
			k := j + len(w)
			s.class(slotHook, k, k, base64Body, 20, "slack-hook")
		}
	}
}

// matchJWT: three parts (RFC 7515) or five (RFC 7516), of which the first
// says so by its opening brace in base64.
func matchJWT(s *scanner, i, _ int) {
	var ends [5]int
	n, at := 0, i
	for {
		e := s.run(slotJWT+n, at, wordDash|equals)
		ends[n] = e
		n++
		if e == len(s.b) && !s.final {
			s.more(i, kindJWT, jwtBody)
			return
		}
		if n == 1 && e-i < 11 || n == len(ends) || e == len(s.b) || s.b[e] != '.' {
			break
		}
		at = e + 1
	}
	if n == 5 {
		s.hit(i, ends[4], kindJWT, jwtBody)
		return
	}
	if n >= 3 && ends[1]-ends[0] >= 12 && hasPrefix(s.b[ends[0]+1:], "eyJ") {
		s.hit(i, ends[2], kindJWT, jwtBody)
	}
}

// matchPEM: a private key, up to its end line; without one, as far as its
// alphabet goes.
func matchPEM(s *scanner, i, j int) {
	h := j
	for h < len(s.b) && h-j < 64 && (upLetter|digit).has(s.b[h]) || h < len(s.b) && s.b[h] == ' ' && h-j < 64 {
		h++
	}
	if len(s.b)-h < 5 && !s.final && hasPrefix([]byte("-----"), string(s.b[h:])) {
		s.moreBy(i, cont{kind: kindPEM, pem: true})
		return
	}
	if !isPEMLabel(s.b[j:h]) || !hasPrefix(s.b[h:], "-----") {
		return
	}
	if e := s.pemEnd(h + 5); e > 0 {
		s.sure(i, e, kindPEM)
		return
	}
	if !s.final {
		s.moreBy(i, cont{kind: kindPEM, pem: true})
		return
	}
	e := s.run(slotPEM, h+5, pemBody)
	for (space | backslash).has(s.b[e-1]) {
		e--
	}
	s.sure(i, e, kindPEM)
}

// isPEMLabel reports whether the label of a PEM line (RFC 7468) is that of a
// private key, or of a block that holds one.
func isPEMLabel(label []byte) bool {
	return hasSuffix(label, "PRIVATE KEY") || hasSuffix(label, "PRIVATE KEY BLOCK")
}

// pemEnd returns the position after the next end line of a private key at or
// after i, 0 if there is none.
func (s *scanner) pemEnd(i int) int {
	if s.pemSet && s.pemFrom <= i && (s.pemAt == 0 || i <= s.pemAt) {
		return s.pemAt
	}
	s.pemSet, s.pemFrom, s.pemAt = true, i, findPEMEnd(s.b, i)
	return s.pemAt
}

func findPEMEnd(b []byte, i int) int {
	const mark = "-----END "
	for {
		k := bytes.Index(b[i:], []byte(mark))
		if k < 0 {
			return 0
		}
		i += k + len(mark)
		e := bytes.Index(b[i:min(len(b), i+64)], []byte("-----"))
		if e >= 0 && isPEMLabel(b[i:i+e]) {
			return i + e + 5
		}
	}
}
