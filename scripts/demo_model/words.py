# ruff: noqa: E501, SIM905, RUF005 - data: one entry a line
"""The words that dialogues are made of."""

from __future__ import annotations

import functools
import pydoc_data.topics
import re
from collections import Counter

CITIES = """Paris London Tokyo Berlin Madrid Rome Oslo Lima Cairo Delhi Boston Austin Seattle Chicago Denver Toronto Sydney
Dublin Vienna Prague Lisbon Athens Moscow Beijing Shanghai Seoul Mumbai Nairobi Lagos Havana Geneva Zurich Munich Milan
Naples Venice Warsaw Helsinki Stockholm Copenhagen Brussels Amsterdam Istanbul Dubai Singapore Bangkok Hanoi Manila Jakarta
Melbourne Auckland Honolulu Hamburg Cologne Frankfurt Stuttgart Lyon Marseille Toulouse Nice Bordeaux Barcelona Valencia
Seville Bilbao Porto Turin Florence Bologna Palermo Genoa Basel Bern Salzburg Graz Innsbruck Budapest Bucharest Sofia Zagreb
Riga Vilnius Tallinn Minsk Kiev Glasgow Edinburgh Cardiff Belfast Leeds Bristol Oxford Cambridge York Brighton Dallas Houston
Phoenix Miami Atlanta Detroit Portland Nashville Memphis Orlando Tampa Baltimore Pittsburgh Cleveland Omaha Tucson Sacramento
Montreal Vancouver Calgary Ottawa Quebec Bogota Quito Caracas Santiago Montevideo Brasilia Recife Dakar Accra Tunis Algiers
Casablanca Kampala Kigali Lusaka Harare Pretoria Durban Riyadh Doha Muscat Tehran Baghdad Damascus Beirut Ankara Karachi
Lahore Kabul Dhaka Colombo Kathmandu Chennai Kolkata Pune Jaipur Osaka Kyoto Nagoya Sapporo Busan Taipei Perth Brisbane
Adelaide Hobart Canberra Wellington Suva Reykjavik Tromso Malmo Aarhus Ghent Utrecht Leiden Dresden Leipzig Bremen
Nuremberg""".split() + [
    "New York", "San Francisco", "Los Angeles", "Hong Kong", "Buenos Aires", "Mexico City", "Cape Town", "Kuala Lumpur",
    "New Delhi", "San Diego", "Las Vegas", "Salt Lake City", "Rio de Janeiro", "Sao Paulo", "Tel Aviv", "Abu Dhabi",
    "Ho Chi Minh City", "Saint Petersburg", "Addis Ababa", "Port Louis", "San Antonio", "New Orleans", "Kansas City",
    "Den Haag", "Santa Cruz", "La Paz", "Panama City", "El Paso", "Fort Worth", "Baden Baden",
]  # fmt: skip

COUNTRIES = """France Germany Spain Italy Portugal Norway Sweden Finland Denmark Poland Austria Hungary Greece Turkey Egypt
Kenya Nigeria Ghana Morocco India China Japan Korea Vietnam Thailand Malaysia Australia Canada Brazil Argentina Chile Peru
Colombia Mexico Cuba Jamaica Ireland Scotland Iceland Belgium Russia Ukraine Israel Iran Iraq Nepal Mongolia""".split()

NAMES = """Alice Bob Carol David Emma Frank Grace Henry Irene Jack Kate Liam Maria Noah Olivia Peter Quinn Rosa Sam Tina Uma
Victor Wendy Xavier Yara Zoe Adam Anna Ben Bella Carl Clara Daniel Diana Edward Elena Felix Fiona George Gloria Hugo Helen
Ivan Isabel James Julia Kevin Karen Leo Laura Martin Marta Nick Nina Oscar Paula Paul Rachel Robert Sarah Simon Sophie
Thomas Teresa Ursula Walter Vera William Yusuf Ahmed Fatima Omar Layla Chen Mei Hiro Yuki Ravi Priya Arjun Ananya Kofi Amara
Sven Ingrid Lars Astrid Pierre Claire Giovanni Lucia Pablo Carmen Dmitri Olga Jan Eva""".split()

SURNAMES = """Smith Jones Brown Taylor Wilson Davies Evans Thomas Johnson Roberts Walker Wright Robinson Thompson White Hughes
Green Hall Clarke Baker Miller Davis Garcia Lopez Martinez Silva Santos Rossi Bianchi Weber Schmidt Fischer Wagner Novak
Kowalski Ivanov Petrov Tanaka Suzuki Kim Lee Park Wang Zhang Singh Patel Khan Ali Hansen Larsen Nilsson Berg""".split()

LANGUAGES = """French German Spanish Italian Japanese Chinese Korean Dutch Polish Greek Portuguese Russian Turkish Arabic Hindi
Swedish Norwegian Danish Finnish Czech Hungarian Thai Vietnamese Hebrew""".split()

EXTENSIONS = "txt md py json csv log yaml toml js ts html css sh sql xml rs go c h ini cfg pdf png jpg".split()

STEMS = """notes readme main index config report data test utils app server client todo draft letter summary budget invoice
setup build model train results output input list plan agenda menu recipe diary script helper parser schema users orders
settings style page home about contact license changelog makefile""".split()

FOLDERS = (
    "src docs tests data home tmp lib bin app config scripts reports notes images public assets users logs".split()
)

DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday today tomorrow tonight".split()

MONTHS = "January February March April May June July August September October November December".split()

ADJECTIVES = """red blue green fast slow big small new old happy quiet bright dark warm cold fresh sweet simple clever lazy brown
long short tall wide narrow deep heavy light soft hard smooth rough sharp dull clean dirty dry wet hot cool early late rich
poor strong weak young modern ancient empty full open closed loud silent calm busy free cheap expensive easy difficult
important useful useless beautiful ugly strange normal special common rare public private local global daily weekly monthly
annual final first second third last next previous main secret hidden broken perfect gentle wild brave polite famous
wooden golden frozen spicy salty bitter hungry thirsty tired sleepy angry nervous proud honest careful careless friendly
round square flat sunny rainy foggy cloudy snowy windy northern southern eastern western urgent weird""".split()

NOUNS = """fox dog cat bird river mountain garden table window coffee tea bread apple music story plan lunch dinner team market
train plane bridge castle island forest winter summer morning evening budget review launch draft project meeting breakfast
house home door key lamp chair desk bed kitchen bathroom bedroom office school library museum theatre cinema hospital
station airport harbour hotel restaurant bakery pharmacy church temple park street road square village town city country
ocean sea lake beach desert valley hill field farm tree flower grass leaf rose seed fruit orange banana lemon grape peach
cherry potato tomato onion carrot rice pasta soup salad cheese butter milk egg sugar salt pepper honey chicken fish beef
pizza cake cookie chocolate water juice wine beer bottle cup glass plate bowl knife fork spoon shirt shoes hat coat dress
jacket umbrella bag suitcase wallet watch ring necklace phone computer laptop keyboard mouse screen printer camera radio
television guitar piano violin drum song album concert movie film book novel poem letter newspaper magazine page chapter
word sentence language question answer idea problem solution reason result example test exam lesson course student teacher
doctor nurse lawyer engineer artist writer singer actor farmer driver pilot captain soldier king queen prince child baby
boy girl man woman friend neighbour mother father brother sister uncle aunt cousin family wedding birthday party holiday
vacation trip journey ticket passport map compass tent boat ship truck car bus bicycle engine wheel road tunnel tower wall
roof floor stairs garage basement attic fence gate horse cow sheep pig goat rabbit tiger lion elephant bear wolf monkey
snake frog turtle shark whale dolphin eagle owl duck goose penguin butterfly spider ant bee dragon robot rocket planet moon
star sun sky cloud rain snow storm wind fire ice stone sand gold silver iron copper paper plastic glass wood metal cotton
wool silk leather rope wire battery energy power light sound voice noise silence colour shape size weight length height
speed distance time hour minute week month year century history science physics chemistry biology maths geography art
sport football tennis basketball hockey golf chess game puzzle toy doll ball team player coach winner prize medal
money price cost salary tax bank loan invoice receipt contract report summary agenda schedule deadline release version
update bug issue feature branch commit server database network password account profile message email address website
blog article comment photo picture video file folder document spreadsheet presentation slide chart graph figure number
weather climate temperature forecast earthquake volcano flood garden gardening cooking baking painting drawing dancing
reading writing running swimming cycling hiking camping fishing sailing travel""".split()

VERBS = """buy sell call visit meet clean wash cook bake paint draw write read send bring take return fix repair build move open
close start finish check test review plan book order pay renew cancel water feed walk pick pack print scan sign learn
practise study watch find order remember update prepare organise discuss""".split()

SYLLABLES = """ba be bi bo bu ca ce co da de di do du fa fe fi fo ga ge go ha he hi ho ja jo ka ke ki ko la le li lo lu ma me mi
mo mu na ne ni no nu pa pe pi po ra re ri ro ru sa se si so su ta te ti to tu va ve vi vo wa we wi za ze zi zo ar en in on
er el an or is us ex um ul ist ant br cr dr fr gr pr tr st sp sk cl pl""".split()

FOREIGN = """café naïve jalapeño Zürich München São Malmö Kraków Łódź Škoda señor garçon über Ångström 東京 京都 北京 上海 你好 寿司
서울 안녕 Москва Киев привет спасибо Αθήνα 🙂 🚀 👍 🎉 crème brûlée façade fiancée žluťoučký""".split()

# what a tool's name says, and the other ways to ask for it
SYNONYMS: dict[str, tuple[str, ...]] = {
    "create": ("create", "make", "add", "set up"), "add": ("add", "put in", "create"), "delete": ("delete", "remove", "erase", "get rid of"),
    "remove": ("remove", "delete", "take away"), "send": ("send", "write"), "update": ("update", "change", "edit"), "start": ("start", "begin", "launch"),
    "stop": ("stop", "end", "halt"), "book": ("book", "reserve"), "reserve": ("reserve", "book"), "cancel": ("cancel", "call off"),
    "play": ("play", "put on"), "save": ("save", "store", "keep"), "open": ("open",), "close": ("close", "shut"), "share": ("share",),
    "rename": ("rename",), "move": ("move",), "copy": ("copy", "duplicate"), "print": ("print", "print out"), "upload": ("upload",),
    "lock": ("lock",), "unlock": ("unlock",), "archive": ("archive",), "publish": ("publish", "post"), "schedule": ("schedule", "plan"),
    "set": ("set", "set up"), "order": ("order", "buy"), "buy": ("buy", "purchase", "order"), "register": ("register", "sign up"), "assign": ("assign", "give"),
    "log": ("log", "record", "note down"), "track": ("track", "follow"), "convert": ("convert", "turn"), "turn_on": ("turn on", "switch on"),
    "turn_off": ("turn off", "switch off"), "pause": ("pause", "hold"), "resume": ("resume", "go on with"), "approve": ("approve", "accept"),
    "reject": ("reject", "refuse"), "export": ("export",), "import": ("import",), "restart": ("restart", "reboot"), "clean": ("clean", "clean up"),
    "rate": ("rate",), "pay": ("pay",), "check": ("check", "verify"), "install": ("install", "set up"), "draw": ("draw", "sketch"), "run": ("run", "execute"),
}  # fmt: skip

LOOKUPS = "get find fetch lookup read check show query search load list retrieve view describe fetch_current get_current".split()

OBJECTS = """timer alarm reminder file folder note event meeting message email order ticket account playlist song light door task
project page image video contact list table row user server job branch issue appointment reservation flight hotel room car
taxi pizza invoice payment subscription customer product shipment package review comment post photo album recipe workout
habit goal expense budget bill device thermostat camera lamp speaker window report document spreadsheet slide form survey
poll group channel thread calendar backup database record column index container cluster instance volume snapshot build
deployment test release pull_request repository commit webhook token password certificate domain coupon gift loan policy
claim prescription patient student course lesson quiz grade book movie game match team player vehicle route delivery menu
table_booking tour visa parcel coffee plant pet label badge shift vacation contract""".split()

ATTRIBUTES = """weather price score population altitude temperature humidity status balance owner schedule forecast distance
capital rating stock traffic menu size color weight length address phone email version history summary definition synonym
invoice order ticket report calendar battery volume speed location profile salary deadline budget area currency elevation
sunrise sunset timezone air_quality pollen tide exchange_rate opening_hours phone_number zip_code birthday author publisher
genre ingredients calories nutrition recipe lyrics trailer cast reviews availability delivery_date tracking queue uptime
latency memory_usage cpu_load disk_space log_file permissions members followers comments likes subscribers inventory
discount warranty specifications dimensions mileage fuel_level tire_pressure departure arrival gate seat platform fare
grade attendance homework syllabus tuition rent mortgage interest_rate tax_rate dividend market_cap revenue profit horoscope
biography pronunciation etymology spelling syllables antonym rhyme holiday population_density area_code dialing_code
flag anthem language president""".split()


@functools.cache
def prose() -> tuple[str, ...]:
    """English words of Python's own manual, as often as the square root of their count there: real, and always at hand."""
    count = Counter(re.findall(r"\b[a-z]{3,14}\b", " ".join(pydoc_data.topics.topics.values())))
    return tuple(word for word, n in sorted(count.items()) if n > 1 for _ in range(min(8, int(n**0.5))))


@functools.cache
def sentences() -> tuple[str, ...]:
    """Runs of plain English words of Python's own manual, 12 words each."""
    text = " ".join(pydoc_data.topics.topics.values())
    runs = re.findall(r"(?:\b[A-Za-z][a-z]+[,]? ){11}[a-z]+\b", re.sub(r"\s+", " ", text))
    return tuple(dict.fromkeys(runs))
