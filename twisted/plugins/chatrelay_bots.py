"""The bots that ship with chatrelay, for `twisted.plugin` to find."""

from chatrelay.bots.reverse import ReverseBot

reverse = ReverseBot()
