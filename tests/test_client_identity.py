"""What a client claims over its connections: names, secrets and tokens; nothing shows them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatrelay.client.core import Reply, parse_line
from chatrelay.client.identity import (
    Identity,
    Secret,
    check_own_secret,
    check_secret,
)
from chatrelay.client.protocol import Claim
from chatrelay.errors import BadSecret, Busy, Misuse, NameInUse, NameOwned
from chatrelay.secret import MAX_SECRET_BYTES, MIN_SECRET_BYTES

OLD, NEW, OTHER = (Secret(f"{word}-secret".encode()) for word in ("old", "new", "other"))
TOKEN = Secret(b"crt_" + b"x" * 43)


class SecretTests(SynchronousTestCase):
    """What can be a secret, and that it is not shown."""

    def test_bounds(self) -> None:
        """Each limit below, at and above its bound, in bytes."""
        for written, is_good in [
            ("x" * (MIN_SECRET_BYTES - 1), False),
            ("x" * MIN_SECRET_BYTES, True),
            ("x" * MAX_SECRET_BYTES, True),
            ("x" * (MAX_SECRET_BYTES + 1), False),
            ("é" * (MIN_SECRET_BYTES // 2), True),
            ("é" * (MAX_SECRET_BYTES // 2) + "x", False),
            ("correct horse", False),
            ("correct\u00a0horse", False),
            ("correct\thorse", False),
            ("correct\nhorse", False),
            ("correct\x7fhorse", False),
            ("correct\u0085horse", False),
            ("correct\u2028horse", False),
            ("correct\ud800horse", False),
            (b"correct\xffhorse", False),
            ("%/@!:;=~ß日", True),
            ("crt_" + "x" * 43, True),
        ]:
            if is_good:
                raw = written.encode() if isinstance(written, str) else written
                self.assertEqual(check_secret(written), raw)
            else:
                with self.assertRaises(Misuse, msg=repr(written)) as raised:
                    check_secret(written)
                self.assertNotIn("horse", str(raised.exception))
                self.assertIsNone(raised.exception.__context__)

    def test_a_token_is_no_new_secret(self) -> None:
        """A token is taken in a secret's place, but not as the secret that a name shall have."""
        self.assertTrue(check_secret(bytes(TOKEN)).is_token)
        self.assertFalse(check_own_secret("not-a-crt_").is_token)
        with self.assertRaises(Misuse):
            check_own_secret(bytes(TOKEN))

    def test_an_error_of_another_line_comes_between(self) -> None:
        """Without a ref nobody knows which line it answers: what follows tells."""
        for error in (b"!error bad-name :No.", b"!error not-allowed :No."):
            identity = Identity(b"carol", None)
            identity.written(b"%no such%hi\n/register new-secret\n")
            identity.erred(parse_line(error))
            identity.registered(parse_line(b"!registered carol"))
            self.assertEqual(identity.proof, b"new-secret")
        identity = Identity(b"carol", OLD)
        identity.written(b"/register first-one\n/register new-secret old-secret\n")
        identity.erred(parse_line(b"!error bad-secret carol :No."))
        identity.registered(parse_line(b"!registered carol"))
        self.assertEqual(identity.proof, b"new-secret")

    def test_hidden(self) -> None:
        """However it is formatted, alone or in a claim."""
        claim = Claim(b"carol", ("id",), OLD)
        for shown in (repr(OLD), str(OLD), f"{OLD}", f"{OLD!r} {[OLD]}", repr(claim), f"{claim}"):
            self.assertNotIn("old-secret", shown)
            self.assertIn("<secret>", shown)


class IdentityTests(SynchronousTestCase):
    """What the next connection claims."""

    def identity(self, secret: Secret | None = None, token: Secret | None = None) -> Identity:
        identity = Identity(b"carol", secret)
        identity.granted("carol")
        if token is not None:
            self.give_token(identity, token)
        return identity

    def give_token(self, identity: Identity, token: Secret) -> None:
        ref = identity.token_request().partition(b" ")[0].decode()[len("@ref=") :]
        self.assertTrue(identity.take_token(Reply("token", (token.decode(),), "", {"ref": ref})))

    def hear(self, identity: Identity, *lines: bytes) -> None:
        for line in lines:
            reply = parse_line(line)
            {
                "welcome": identity.renamed,
                "registered": identity.registered,
                "error": identity.erred,
            }[reply.word](reply)

    def test_token(self) -> None:
        """A secret is asked a token for, once; the token is what is claimed with."""
        identity = self.identity(OLD)
        self.assertEqual(identity.proof, OLD)
        self.give_token(identity, TOKEN)
        self.assertEqual(identity.proof, TOKEN)
        self.assertIsNone(identity.token_request())
        identity.lost()
        self.assertEqual(identity.proof, TOKEN)
        identity.granted("carol")
        self.assertIsNone(identity.token_request())

    def test_no_token(self) -> None:
        """None is asked for without a secret, with a token in its place, or without a need."""
        self.assertIsNone(self.identity().token_request())
        self.assertIsNone(self.identity(TOKEN).token_request())
        self.assertIsNone(Identity(b"carol", OLD, wants_token=False).token_request())

    def test_token_refused(self) -> None:
        """An error leaves the secret; only the answer to what was asked is taken."""
        identity = self.identity(OLD)
        request = identity.token_request()
        self.assertIsNone(identity.token_request())
        ref = request.partition(b" ")[0].decode()[len("@ref=") :]
        self.assertFalse(identity.take_token(Reply("token", (TOKEN.decode(),), "", {"ref": "1"})))
        self.assertFalse(identity.take_token(Reply("token", (TOKEN.decode(),))))
        self.assertTrue(identity.is_token_answer_in(b"x " + request))
        self.assertTrue(identity.take_token(Reply("error", ("busy",), "Later.", {"ref": ref})))
        self.assertFalse(identity.is_token_answer_in(request))
        self.assertEqual(identity.proof, OLD)

    def test_token_unanswered(self) -> None:
        """The next connection asks again."""
        identity = self.identity(OLD)
        self.assertIsNotNone(identity.token_request())
        identity.lost()
        identity.granted("carol")
        self.give_token(identity, TOKEN)
        self.assertEqual(identity.proof, TOKEN)

    def test_what_is_tried(self) -> None:
        """After a token its secret; after a secret nothing."""
        identity = self.identity(OLD, TOKEN)
        self.assertFalse(identity.refused(Busy()))
        self.assertFalse(identity.refused(NameInUse(b"carol")))
        self.assertEqual(identity.proof, TOKEN)
        self.assertTrue(identity.refused(BadSecret(b"carol")))
        self.assertEqual(identity.proof, OLD)
        self.assertFalse(identity.refused(BadSecret(b"carol")))
        self.assertFalse(self.identity().refused(NameOwned(b"carol")))

    def test_commands(self) -> None:
        """What was written, what the relay says, and then the name and its proof."""
        old, new, other = (secret.decode() for secret in (OLD, NEW, OTHER))
        before = (OLD, TOKEN)
        for start, written, said, expected in [
            # A free name is registered; a registered one gets another secret.
            ((None, None), f"/register {new}", ["!registered carol"], ("carol", NEW)),
            (before, f"/register {new} {old}", ["!registered carol"], ("carol", NEW)),
            (before, f"/REGISTER  {new} {old}\r", ["!registered carol"], ("carol", NEW)),
            (before, f"/register {new} wrong-one", ["!error bad-secret carol"], ("carol", TOKEN)),
            # Refs pair what is written with what is said.
            (
                before,
                f"@ref=1 /register {other}\n@ref=2 /register {new} {old}",
                ["@ref=1 !error bad-secret carol", "@ref=2 !registered carol"],
                ("carol", NEW),
            ),
            (before, f"@ref=1 /register {new} {old}", ["@ref=2 !registered carol"], None),
            (before, f"@ref=1 /register {new} {old}", ["!registered carol"], None),
            # So does the order, without refs.
            (
                before,
                f"/register short\n/register {new} {old}",
                ["!error bad-secret carol", "!registered carol"],
                ("carol", NEW),
            ),
            (
                before,
                f"/register {new} {old}",
                ["!error unknown-name bob", "!error empty-text", "!registered carol"],
                ("carol", NEW),
            ),
            # Another name: free, or with a secret; another writing of one's own.
            (before, "/name bob", ["!welcome bob"], ("bob", None)),
            (before, f"/name bob {other}", ["!welcome bob"], ("bob", OTHER)),
            (before, f"/name bob {other}", ["!error bad-secret bob"], None),
            (before, f"/name bob {other}\n/name dave", ["!welcome bob"], ("bob", OTHER)),
            (
                before,
                f"/name bob wrong-one\n/name bob {other}",
                ["!error bad-secret bob", "!welcome bob"],
                ("bob", OTHER),
            ),
            (before, "/name Carol", ["!welcome Carol"], ("Carol", TOKEN)),
            (
                before,
                f"/name bob {other}\n/register {new} {other}",
                ["!welcome bob", "!registered bob"],
                ("bob", NEW),
            ),
            # Somebody wrote of it only.
            (before, f"%bob%/register {new}", ["!registered carol"], None),
            (before, f"x /name bob {other}", [], None),
            (before, f"@=; /register {new}", ["!registered carol"], None),
            (before, "/name ", [], None),
            (before, "/register \n/registered x", [], None),
        ]:
            identity = self.identity(*start)
            identity.written(f"%bob%hi\n{written}\n/ping\n".encode())
            self.hear(identity, *(line.encode() for line in said))
            identity.lost()
            name, proof = expected or ("carol", TOKEN)
            self.assertEqual((identity.name, identity.proof), (name, proof), (written, said))
            # A secret that is new has no token yet.
            has_request = identity.token_request() is not None
            self.assertEqual(has_request, proof not in (None, TOKEN), (written, said))

    def test_register_unanswered(self) -> None:
        """A connection that is lost before the answer leaves both to be tried."""
        register = f"/register {NEW.decode()} {OLD.decode()}\n".encode()
        identity = self.identity(OLD, TOKEN)
        identity.written(register)
        identity.lost()
        tried = [identity.proof]
        while identity.refused(BadSecret(b"carol")):
            tried.append(identity.proof)
        self.assertEqual(tried, [TOKEN, OLD, NEW])
        # The token still serves: the secret is not another one, then.
        identity = self.identity(OLD, TOKEN)
        identity.written(register)
        identity.lost()
        identity.granted("carol")
        self.assertTrue(identity.refused(BadSecret(b"carol")))
        self.assertFalse(identity.refused(BadSecret(b"carol")))
        self.assertEqual(identity.proof, OLD)

    def test_first_register_unanswered(self) -> None:
        """A name that may have been registered is claimed without, then with the secret."""
        identity = self.identity()
        identity.written(b"/register " + NEW + b"\n")
        identity.lost()
        self.assertIsNone(identity.proof)
        self.assertTrue(identity.refused(NameOwned(b"carol")))
        self.assertEqual(identity.proof, NEW)
        identity.granted("carol")
        self.assertTrue(identity.is_registered)

    def test_bounded(self) -> None:
        """Of commands that are never answered a few are kept."""
        identity = self.identity()
        for number in range(10_000):
            identity.written(b"/register secret-%d\n" % number)
        self.assertLess(len(identity._asked), 1000)
        identity.lost()
        tries = 0
        while identity.refused(NameOwned(b"carol")):
            tries += 1
        self.assertEqual((tries, identity.proof), (3, b"secret-9999"))

    @given(st.binary(max_size=100))
    def test_any_bytes(self, data: bytes) -> None:
        """Nothing that a pipe sends raises."""
        identity = self.identity(OLD)
        identity.written(data + b"\n/name \xff\n@ref=\xff /name \xff \xff\n" + data)
        self.assertEqual(identity.proof, OLD)
